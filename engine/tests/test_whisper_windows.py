"""How a recording is cut: with a finder of speech that tests can foresee."""

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise, repeat

import numpy as np
import pytest

from engine.types import Samples
from engine.whisper.phrases import Phrase, split_phrases
from engine.whisper.windows import SAMPLE_RATE, WINDOW_S, Span, Window, listen

HOP = 160
FIRST_TIMESTAMP = 1000


def find_loud(samples: Samples) -> Sequence[Span]:
    """Speech is what is not zero, in hops of 10 ms, cut at WINDOW_S."""
    padded = np.pad(samples != 0, (0, -len(samples) % HOP))
    loud = np.concatenate([[False], padded.reshape(-1, HOP).any(axis=1), [False]])
    edges = np.flatnonzero(np.diff(loud.astype(int))) * HOP
    return [
        Span(start, min(start + WINDOW_S * SAMPLE_RATE, end, len(samples)))
        for begin, end in edges.reshape(-1, 2).tolist()
        for start in range(begin, end, WINDOW_S * SAMPLE_RATE)
    ]


def talk(*seconds: float) -> Samples:
    """Speech and silence in turn, speech first; no two samples alike."""
    parts = [
        np.full(round(length * SAMPLE_RATE), float(nth % 2 == 0), np.float32)
        for nth, length in enumerate(seconds)
    ]
    mask = np.concatenate(parts)
    return mask * np.linspace(0.1, 1.0, len(mask), dtype=np.float32)


def conversation(seconds: float) -> Samples:
    lengths = np.random.default_rng(1).uniform((1.0, 0.3), (9.0, 2.0), (int(seconds / 4), 2))
    return talk(*lengths.ravel())[: int(seconds * SAMPLE_RATE)]


def blocks(audio: Samples, size: int) -> Iterator[Samples]:
    for start in range(0, len(audio), size):
        yield audio[start : start + size]


def heard(
    audio: Samples, *, block: int = SAMPLE_RATE, read_s: float = 60.0, most: int = 8
) -> list[list[Window]]:
    return list(listen(blocks(audio, block), find_loud, repeat(read_s), most))


def spans(batches: list[list[Window]]) -> list[Span]:
    return [span for window in chain(*batches) for span in window.spans]


@pytest.mark.parametrize("block", [777, 16_000, 16_001, 10**9])
def test_windows_are_the_same_however_the_input_is_cut(block: int) -> None:
    audio = conversation(200)
    expected = [(w.spans, w.samples.tobytes()) for w in chain(*heard(audio))]
    found = [(w.spans, w.samples.tobytes()) for w in chain(*heard(audio, block=block))]
    assert len(expected) > 5
    assert found == expected


@pytest.mark.parametrize("read_s", [1.0, 5.0, 30.0, 240.0])
def test_all_speech_is_heard_once_and_whole_however_much_is_read(read_s: float) -> None:
    audio = conversation(200)
    assert spans(heard(audio, read_s=read_s)) == find_loud(audio)


def test_a_window_is_the_recording_at_its_spans() -> None:
    audio = conversation(100)
    for window in chain(*heard(audio)):
        expected = np.concatenate([audio[span.start : span.end] for span in window.spans])
        np.testing.assert_array_equal(window.samples, expected)
        assert window.duration_s <= WINDOW_S


def test_speech_that_fits_shares_a_window() -> None:
    (batch,) = heard(talk(10, 5, 10, 5, 10, 5, 10))
    assert [len(window.spans) for window in batch] == [3, 1]


def test_speech_without_a_pause_is_cut_at_the_window() -> None:
    audio = talk(75)
    batches = heard(audio, read_s=5.0)
    assert [window.duration_s for window in chain(*batches)] == [30, 30, 15]
    assert all(a.end == b.start for a, b in pairwise(spans(batches)))


def test_no_batch_has_more_windows_than_asked() -> None:
    audio = talk(*[20, 1] * 8)
    batches = heard(audio, read_s=600.0, most=3)
    assert [len(batch) for batch in batches] == [3, 3, 2]
    assert spans(batches) == find_loud(audio)


@pytest.mark.parametrize("audio", [np.empty(0, np.float32), talk(0, 200)], ids=["empty", "silent"])
def test_nothing_is_heard_in_silence(audio: Samples) -> None:
    assert heard(audio) == []


@pytest.mark.parametrize("read_s", [5.0, 30.0, 60.0])
def test_ten_minutes_are_held_a_little_at_a_time(read_s: float) -> None:
    pulled = 0

    def counted() -> Iterator[Samples]:
        nonlocal pulled
        for block in blocks(conversation(600), SAMPLE_RATE):
            pulled += len(block)
            yield block

    ahead_s = [
        (pulled - batch[0].spans[0].start) / SAMPLE_RATE
        for batch in listen(counted(), find_loud, repeat(read_s), 8)
    ]
    assert len(ahead_s) > 8
    assert max(ahead_s) <= read_s + 5.0 + 1.0


def test_what_the_input_raises_comes_through() -> None:
    def broken() -> Iterator[Samples]:
        yield talk(20, 1, 20)
        raise ConnectionError("gone")

    batches = listen(broken(), find_loud, repeat(30.0), 8)
    assert len(next(batches)) == 1
    with pytest.raises(ConnectionError, match="gone"):
        next(batches)


@pytest.fixture
def window() -> Window:
    """2 s of speech at 10 s, and 1 s at 20 s."""
    span_list = (Span(160_000, 192_000), Span(320_000, 336_000))
    return Window(np.ones(48_000, np.float32), span_list)


def test_times_in_a_window_are_moved_to_where_they_were(window: Window) -> None:
    assert window.interval(0.5, 1.5) == (10.5, 11.5)
    assert window.interval(0.5, 2.5) == (10.5, 20.5)
    assert window.interval(2.25, 9.0) == (20.25, 21.0)


def test_where_spans_meet_one_ends_and_the_next_starts(window: Window) -> None:
    assert window.interval(1.0, 2.0) == (11.0, 12.0)
    assert window.interval(2.0, 3.0) == (20.0, 21.0)


def test_a_word_does_not_hold_a_pause(window: Window) -> None:
    assert window.word_interval(1.5, 2.25) == (11.5, 12.0)
    assert window.word_interval(1.75, 2.75) == (20.0, 20.75)
    assert window.word_interval(2.5, 9.0) == (20.5, 21.0)


def at(seconds: float) -> int:
    return FIRST_TIMESTAMP + round(seconds / 0.02)


def split(*tokens: int, duration_s: float = 10.0) -> list[Phrase]:
    return split_phrases(tokens, FIRST_TIMESTAMP, duration_s)


def times_s(phrases: list[Phrase]) -> list[tuple[float, float]]:
    return [(round(phrase.start_s, 2), round(phrase.end_s, 2)) for phrase in phrases]


def test_a_phrase_lies_between_its_timestamps() -> None:
    tokens = (at(0), 1, 2, at(3), at(4), 3, at(6))
    phrases = split(*tokens)
    assert times_s(phrases) == [(0.0, 3.0), (4.0, 6.0)]
    assert [phrase.tokens for phrase in phrases] == [tokens[:4], tokens[4:]]


@pytest.mark.parametrize("ending", [(at(3), at(4), 2, 3), (at(3), 2, 3)])
def test_text_after_the_last_timestamp_is_kept(ending: tuple[int, ...]) -> None:
    phrases = split(at(0), 1, *ending)
    assert times_s(phrases) in ([(0.0, 3.0), (4.0, 10.0)], [(0.0, 3.0), (3.0, 10.0)])
    assert phrases[-1].tokens[-2:] == (2, 3)


def test_text_without_a_timestamp_lasts_the_window() -> None:
    assert split(1, 2) == [Phrase(0.0, 10.0, (1, 2))]


def test_a_timestamp_beyond_the_window_is_its_end() -> None:
    phrases = split(at(1), 1, at(29), at(29.5), 2, at(30))
    assert times_s(phrases) == [(1.0, 10.0), (10.0, 10.0)]


def test_timestamps_without_text_are_no_phrase() -> None:
    assert split(at(0), at(1), at(2)) == []
    assert split() == []
