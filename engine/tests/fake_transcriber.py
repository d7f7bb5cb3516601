"""A transcriber for tests: each second of the recording becomes a word, its mean as a percentage.

A second that holds nothing but -1 kills the process; one of nothing but -0.5 is a bug in it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np

from engine.errors import InvalidRequest
from engine.types import Device, EngineInfo, Samples, Segment, TranscribeOptions, TranscriptInfo

SAMPLE_RATE = 16_000


class MeanTranscriber:
    """Implements `engine.protocol.Transcriber`."""

    def __init__(self, options: dict[str, str]) -> None:
        self.closed = 0

    def load(self, device: Device) -> EngineInfo:
        return EngineInfo(
            name="mean", task="transcription", sample_rate=SAMPLE_RATE, languages=("en",)
        )

    def transcribe(
        self, audio: Iterator[Samples], options: TranscribeOptions
    ) -> tuple[TranscriptInfo, Iterator[Segment]]:
        if options.language not in (None, "en"):
            raise InvalidRequest("only English", "language")
        return TranscriptInfo("en", 1.0), self._segments(audio)

    def _segments(self, audio: Iterator[Samples]) -> Iterator[Segment]:
        held = np.zeros(0, np.float32)
        second = 0
        try:
            for block in audio:
                held = np.concatenate([held, block])
                while len(held) >= SAMPLE_RATE:
                    yield Segment(second, second + 1, word(held[:SAMPLE_RATE]))
                    held, second = held[SAMPLE_RATE:], second + 1
        finally:
            self.closed += 1


def word(samples: Samples) -> str:
    mean = float(samples.mean())
    if mean == -1.0:
        os.kill(os.getpid(), signal.SIGKILL)
    if mean == -0.5:
        raise RuntimeError("a bug")
    return f" {round(100 * mean)}"


def seconds(*means: float) -> Samples:
    """A recording of these seconds, float32 [16000 * len]."""
    return np.repeat(np.asarray(means, np.float32), SAMPLE_RATE)
