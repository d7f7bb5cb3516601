"""One segment's blocks on their way to `emit`: gathered, scaled, with the words they begin."""

from __future__ import annotations

import numpy as np

from engine.espeak.job import EspeakJob
from engine.espeak.library import SAMPLE_RATE, Pcm16
from engine.espeak.native import WordStart
from engine.espeak.words import WordClock
from engine.protocol import Emit
from engine.types import StepOutput, Word

# A job's first block goes out as it is; later ones together, as each output has a cost.
_GATHERED_SAMPLES = SAMPLE_RATE // 5


class SegmentStream:
    """Feeds one segment of a job to `emit`; lives as long as the library speaks it."""

    def __init__(self, job: EspeakJob, text: str, emit: Emit) -> None:
        self._job = job
        self._emit = emit
        self._start_samples = job.sent_samples
        self._clock = WordClock(text, job.sent_samples / SAMPLE_RATE)
        self._text_chars = len(text)
        self._spoken_chars = 0
        self._blocks: list[Pcm16] = []
        self._gathered_samples = 0
        self._words: list[Word] = []

    def deliver(self, samples: Pcm16, starts: list[WordStart]) -> bool:
        """Take a block; False when the job is cancelled. A `library.Deliver`."""
        job = self._job
        if job.is_cancelled:
            return False
        # Before the new block is taken: so one is always left to carry the last words.
        is_first = job.sent_samples == 0
        if job.has_spoken and (is_first or self._gathered_samples >= _GATHERED_SAMPLES):
            self._flush()
        for start in starts:
            start_s = (self._start_samples + start.sample) / SAMPLE_RATE
            self._words += self._clock.start(start.position, start_s)
            # What stands before a word has been spoken when the word begins.
            self._spoken_chars = max(self._spoken_chars, start.position)
        job.has_spoken |= bool(starts)
        self._blocks.append(samples)
        self._gathered_samples += len(samples)
        return True

    def finish(self) -> None:
        """Send the rest; a segment is dropped if no word has begun by its end."""
        if self._job.has_spoken:
            end_samples = self._job.sent_samples + self._gathered_samples
            self._words += self._clock.finish(end_samples / SAMPLE_RATE)
            self._spoken_chars = self._text_chars
            self._flush()
        self._job.spoken_chars += self._text_chars

    def _flush(self) -> None:
        if not self._blocks:
            return
        samples = np.concatenate(self._blocks).astype(np.float32) / np.float32(32768)
        job = self._job
        job.sent_samples += len(samples)
        progress = (job.spoken_chars + self._spoken_chars) / job.text_chars
        self._emit(StepOutput(job.id, samples, tuple(self._words), progress))
        self._blocks, self._words, self._gathered_samples = [], [], 0
