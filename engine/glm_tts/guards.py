"""What keeps a model that has lost its way from going on for ever."""

from __future__ import annotations

import numpy as np

from engine.types import Samples

_QUIET = 1e-3
"""-60 dBFS."""


class SilenceRun:
    """How long the speech has been silent at its end. Worker's loop only.

    Args:
        sample_rate: Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._samples = 0

    @property
    def seconds(self) -> float:
        return self._samples / self._sample_rate

    def hear(self, audio: Samples) -> None:
        """Take the audio that follows, float32 [T]."""
        loud = np.flatnonzero(np.abs(audio) > _QUIET)
        if len(loud):
            self._samples = len(audio) - 1 - int(loud[-1])
        else:
            self._samples += len(audio)
