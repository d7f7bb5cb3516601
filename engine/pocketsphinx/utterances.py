"""A recording cut at its pauses, block by block, so that one of hours needs no memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import Struct
from pocketsphinx import Vad

from engine.errors import InvalidRequest
from engine.types import Samples, SpeechDetection

SAMPLE_RATE = 16_000
"""Hz."""

_FRAME_S = 0.03
_FRAME_BYTES = round(_FRAME_S * SAMPLE_RATE) * 2

_DEFAULTS = SpeechDetection(threshold=0.5, padding_s=0.3, min_silence_s=0.5)

_MAX_PADDING_S = 5.0
_MAX_SILENCE_S = 30.0

# Half the gap between two words that are spoken without a pause, and the most a cut may miss it.
_LULL_FRAMES = 5


class Utterance(Struct, frozen=True):
    """A stretch with speech in it."""

    start_s: float
    """In the recording."""
    pcm: bytes
    """16-bit mono at SAMPLE_RATE."""


def to_pcm(samples: Samples) -> bytes:
    """Samples as the library takes them: 16-bit, in the machine's byte order."""
    return np.clip(samples * 32768, -32768, 32767).astype(np.int16).tobytes()


def check(detection: SpeechDetection) -> None:
    """Raises: InvalidRequest: a value that makes no sense."""
    for value, highest, field in (
        (detection.threshold, 1.0, "threshold"),
        (detection.padding_s, _MAX_PADDING_S, "prefix_padding_ms"),
        (detection.min_silence_s, _MAX_SILENCE_S, "silence_duration_ms"),
    ):
        if not 0 <= value <= highest:
            raise InvalidRequest(
                f"chunking_strategy.{field} is out of range", param="chunking_strategy"
            )


def utterances(
    audio: Iterator[Samples], detection: SpeechDetection | None, max_s: float
) -> Iterator[Utterance]:
    """The stretches with speech, in order, without overlap; what is silent is left out.

    Args:
        audio: Blocks of float32 mono [T] at SAMPLE_RATE, of any length. How they are cut makes no
            difference; the last 30 ms may not be looked at.
        detection: One that `check` let pass; None for defaults.
        max_s: Speech without a pause is cut at its quietest moment before this.
    """
    cutter = _Cutter(detection or _DEFAULTS, max_s)
    for frame in _frames(audio):
        if (utterance := cutter.push(frame)) is not None:
            yield utterance
    if (utterance := cutter.finish()) is not None:
        yield utterance


def _frames(audio: Iterator[Samples]) -> Iterator[bytes]:
    rest = b""
    for block in audio:
        pcm = rest + to_pcm(block)
        end = len(pcm) - len(pcm) % _FRAME_BYTES
        for start in range(0, end, _FRAME_BYTES):
            yield pcm[start : start + _FRAME_BYTES]
        rest = pcm[end:]


class _Cutter:
    """Holds the frames of one utterance, or the silence before the next."""

    def __init__(self, detection: SpeechDetection, max_s: float) -> None:
        # The library knows four degrees of strictness.
        self._vad = Vad(min(int(detection.threshold * 4), 3), SAMPLE_RATE, _FRAME_S)
        self._max = int(max_s / _FRAME_S)
        self._padding = min(round(detection.padding_s / _FRAME_S), self._max // 4)
        self._min_silence = max(round(detection.min_silence_s / _FRAME_S), 1)
        self._held: list[bytes] = []
        self._start = 0
        """Frames of the recording before the held ones."""
        self._speech_end = 0
        """How many of the held frames there are up to the last one with speech."""

    def push(self, frame: bytes) -> Utterance | None:
        self._held.append(frame)
        if self._vad.is_speech(frame):
            self._speech_end = len(self._held)
        if self._speech_end == 0:
            self._drop(len(self._held) - self._padding)
        elif len(self._held) - self._speech_end >= self._min_silence:
            return self._cut(self._speech_end + self._padding)
        elif len(self._held) >= self._max:
            return self._cut(self._quietest())
        return None

    def finish(self) -> Utterance | None:
        return self._cut(self._speech_end + self._padding) if self._speech_end else None

    def _cut(self, end: int) -> Utterance:
        utterance = Utterance(self._start * _FRAME_S, b"".join(self._held[:end]))
        self._drop(end)
        return utterance

    def _drop(self, count: int) -> None:
        count = min(max(count, 0), len(self._held))
        del self._held[:count]
        self._start += count
        self._speech_end = max(self._speech_end - count, 0)

    def _quietest(self) -> int:
        """The middle of the quietest moment in the later half of what is held."""
        first = len(self._held) // 2
        pcm = np.frombuffer(b"".join(self._held[first:]), np.int16).astype(np.float32)
        power = np.square(pcm).reshape(-1, _FRAME_BYTES // 2).mean(axis=1)
        lulls = np.convolve(power, np.ones(_LULL_FRAMES), mode="valid")
        return first + int(lulls.argmin()) + _LULL_FRAMES // 2
