"""Cuts a recording of any length, at silence, into the windows that Whisper listens to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from msgspec import Struct

from engine.types import Samples

SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = 160
"""10 ms: the model's frames, and what Segment.seek counts."""
WINDOW_S = 30
"""What the model hears at once."""

_WINDOW_SAMPLES = WINDOW_S * SAMPLE_RATE

# Read on by this much where no pause has come yet.
_STEP_SAMPLES = 5 * SAMPLE_RATE

# Silence at the end of what is read may hold the onset of a word.
_ONSET_SAMPLES = SAMPLE_RATE // 2


class Span(Struct, frozen=True, array_like=True):
    """Speech in a recording, from one sample to before another."""

    start: int
    end: int


FindSpeech = Callable[[Samples], Sequence[Span]]
"""Spans of at most WINDOW_S in order, without overlap; one that reaches the end may go on."""


class Window(Struct, frozen=True):
    """Speech of at most WINDOW_S, long pauses left out."""

    samples: Samples
    """[T]"""
    spans: tuple[Span, ...]
    """Where in the recording the samples are from; as long as they, and at least one."""

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    def interval(self, start_s: float, end_s: float) -> tuple[float, float]:
        """A stretch of the window, in seconds of the recording."""
        return self._time(start_s, is_end=False), self._time(end_s, is_end=True)

    def word_interval(self, start_s: float, end_s: float) -> tuple[float, float]:
        """As `interval`, but within the span where most of it lies: no word holds a pause."""
        offset_s, span = self._locate((start_s + end_s) / 2, is_end=True)
        first_s, last_s = span.start / SAMPLE_RATE, span.end / SAMPLE_RATE
        moved_s = first_s - offset_s
        return (
            min(max(start_s + moved_s, first_s), last_s),
            min(max(end_s + moved_s, first_s), last_s),
        )

    def _time(self, time_s: float, *, is_end: bool) -> float:
        offset_s, span = self._locate(time_s, is_end=is_end)
        return min(span.start / SAMPLE_RATE + time_s - offset_s, span.end / SAMPLE_RATE)

    def _locate(self, time_s: float, *, is_end: bool) -> tuple[float, Span]:
        """The span of a moment, and where it begins in the window, s.

        The moment at which two spans meet is the end of the one and the start of the other.
        """
        at, offset = round(time_s * SAMPLE_RATE), 0
        for span in self.spans[:-1]:
            length = span.end - span.start
            if at < offset + length or (is_end and at == offset + length):
                return offset / SAMPLE_RATE, span
            offset += length
        return offset / SAMPLE_RATE, self.spans[-1]


def listen(
    audio: Iterator[Samples], find_speech: FindSpeech, read_s: Iterator[float], max_windows: int
) -> Iterator[list[Window]]:
    """The speech of a recording, batch by batch.

    How the blocks of the input are cut makes no difference. What is held at a time is what is
    asked for by `read_s`, or a little more than WINDOW_S where speech goes on without a pause.

    Args:
        audio: Blocks of [T] at SAMPLE_RATE. What it raises comes through.
        find_speech: Called on all that is held.
        read_s: How much to hold before the next batch, s; endless.
        max_windows: In a batch.
    Yields:
        At least one window. It ends in a pause, unless there was none for WINDOW_S.
    """
    source = _Source(audio)
    held, start = np.empty(0, np.float32), 0
    for seconds in read_s:
        wanted, done = max(round(seconds * SAMPLE_RATE), len(held)), 0
        is_last = False
        while not done and not is_last:
            held = np.concatenate([held, *source.read(wanted - len(held))])
            is_last = len(held) < wanted
            spans = find_speech(held)
            done = len(held) if is_last else _settled(spans, len(held))
            wanted += _STEP_SAMPLES
        groups = _packed(span for span in spans if span.end <= done)
        if len(groups) > max_windows:
            done, is_last = groups[max_windows][0].start, False
        if groups:
            yield [_window(held, start, group) for group in groups[:max_windows]]
        if is_last:
            return
        held, start = held[done:], start + done


def _settled(spans: Sequence[Span], length: int) -> int:
    """How many of the samples held will be heard the same, however the recording goes on."""
    if not spans:
        return max(length - _ONSET_SAMPLES, 0)
    last = spans[-1]
    return last.start if last.end == length else max(last.end, length - _ONSET_SAMPLES)


def _packed(spans: Iterable[Span]) -> list[list[Span]]:
    """Grouped by window, each as full as it can be."""
    groups: list[list[Span]] = []
    room = 0
    for span in spans:
        length = span.end - span.start
        if length > room:
            groups.append([])
            room = _WINDOW_SAMPLES
        groups[-1].append(span)
        room -= length
    return groups


def _window(held: Samples, start: int, spans: Sequence[Span]) -> Window:
    samples = np.concatenate([held[span.start : span.end] for span in spans])
    return Window(samples, tuple(Span(start + span.start, start + span.end) for span in spans))


class _Source:
    """Gives a number of samples from blocks of any length."""

    def __init__(self, blocks: Iterator[Samples]) -> None:
        self._blocks = blocks
        self._rest = np.empty(0, np.float32)

    def read(self, samples: int) -> Iterator[Samples]:
        """Parts of as many samples in all; fewer only at the end of the recording."""
        while samples > 0:
            if not len(self._rest):
                if (block := next(self._blocks, None)) is None:
                    return
                self._rest = block
            part, self._rest = self._rest[:samples], self._rest[samples:]
            samples -= len(part)
            yield part
