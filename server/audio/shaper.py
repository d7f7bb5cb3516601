"""Rate and tempo of a stream of speech, changed as it passes."""

from __future__ import annotations

import math

import numpy as np
from av.audio import AudioFrame

from engine.types import Samples
from server.audio.filters import EMPTY, FilterChain

# At its end atempo drops what it has not yet placed: up to 0.25 s of its input, at tempo 4.
# Silence of this length pushes all speech out before that.
_TAIL_S = 0.5
# The filters keep room for the longest frame that they have seen: one of 4 s costs each stream
# megabytes.
_FRAME_S = 0.2


class Shaper:
    """Resamples, and stretches time without changing pitch; one a stream.

    Gives exactly as much audio as the input asks for, to the sample. Holds back 1 ms of input if
    it resamples, 80 ms if it changes tempo (240 ms beyond 2). Any thread, one at a time.

    Args:
        in_rate: Hz, of what is pushed.
        out_rate: Hz, of what comes back.
        tempo: How much faster the speech becomes, 0.25 to 4; 1 leaves it as it is.
    """

    def __init__(self, in_rate: int, out_rate: int, tempo: float = 1.0) -> None:
        self._in_rate = in_rate
        self._tempo = tempo
        self._ratio = out_rate / in_rate / tempo
        self._pushed_samples = 0
        self._given_samples = 0
        self._chain: FilterChain | None = None
        if in_rate != out_rate or tempo != 1.0:
            stretches = [("atempo", repr(factor)) for factor in _atempo_factors(tempo)]
            resample = ("aresample", str(out_rate))
            self._chain = FilterChain(in_rate, "flt", "mono", [*stretches, resample])

    def push(self, samples: Samples) -> Samples:
        """What is ready after these samples; maybe nothing. Not a copy if nothing is to do."""
        if self._chain is None or len(samples) == 0:
            return samples
        step = int(_FRAME_S * self._in_rate)
        ready = np.concatenate(
            [
                self._chain.push(self._frame(samples[start : start + step]))
                for start in range(0, len(samples), step)
            ]
        )
        self._pushed_samples += len(samples)
        self._given_samples += len(ready)
        return ready

    def flush(self) -> Samples:
        """The rest. Called once, at the end."""
        if self._chain is None or self._pushed_samples == 0:
            return EMPTY
        rest = []
        if self._tempo != 1.0:
            tail = np.zeros(int(_TAIL_S * self._in_rate), np.float32)
            rest.append(self._chain.push(self._frame(tail)))
        rest.append(self._chain.finish())
        missing = round(self._pushed_samples * self._ratio) - self._given_samples
        return np.concatenate(rest)[: max(0, missing)]

    def _frame(self, samples: Samples) -> AudioFrame:
        frame = AudioFrame.from_ndarray(samples.reshape(1, -1), "flt", "mono")
        frame.sample_rate = self._in_rate
        return frame


def _atempo_factors(tempo: float) -> list[float]:
    """Equal factors within 0.5 and 2 whose product is the tempo; none for 1.

    One atempo filter takes no less than 0.5; above 2 it would skip samples instead of blending
    them, and fail on a chunk of one sample.
    """
    count = math.ceil(abs(math.log2(tempo)))
    return [tempo ** (1 / count) for _ in range(count)]
