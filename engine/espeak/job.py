"""What a request is while espeak-ng works on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from msgspec import Struct

from engine.espeak.style import StyleFit
from engine.types import Job


class Segment(Struct, frozen=True):
    """What one step speaks."""

    text: str
    voice: str
    """As `library.Utterance.voice`."""
    ends_with_pause: bool


class EspeakJob(Job):
    """One request.

    Attributes:
        segments: Still to be spoken, in order.
        pace: Words per minute, as the library takes it.
        fit: Of every utterance.
        seed: Likewise.
        text_chars: Of all segments together.
        spoken_chars: Of the segments that are over.
        sent_samples: Given to `emit` so far.
        has_spoken: A word has begun; until then all audio is silence and is held back.
    """

    def __init__(
        self, job_id: int, segments: Iterable[Segment], pace: int, fit: StyleFit, seed: int
    ) -> None:
        super().__init__(job_id, "render")
        self.segments = deque(segments)
        self.pace = pace
        self.fit = fit
        self.seed = seed
        self.text_chars = sum(len(segment.text) for segment in self.segments)
        self.spoken_chars = 0
        self.sent_samples = 0
        self.has_spoken = False
