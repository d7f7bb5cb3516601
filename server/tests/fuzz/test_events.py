"""Server-sent events of any text: a client reads back what was sent, however it is cut up."""

import json
from collections.abc import Iterable, Iterator

from hypothesis import example, given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from engine.types import Segment, SpokenWord, TranscriptInfo
from server.schemas.speech import AudioDelta, WordTime, WordTimes
from server.schemas.transcription import TranscriptionRequest
from server.streaming import sse
from server.tests.fuzz.effort import tries
from server.transcription import TranscriptEvents

TEXTS = st.text(max_size=30) | st.text("\r\n\u2028\u2029\x85\x00: data", max_size=12)


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


def read(parts: Iterable[bytes]) -> list[dict[str, object]]:
    """The events' data, as the official SDK finds it."""
    return [json.loads(event.data) for event in SSEDecoder().iter_bytes(iter(parts))]


def test_any_words_come_back_from_any_cut() -> None:
    @tries(80)
    @given(st.lists(TEXTS, max_size=4), st.lists(st.integers(0, 40), max_size=6))
    @example(["a\r\n\r\ndata: b", "\u2028"], [1])
    def check(words: list[str], sizes: list[int]) -> None:
        events = [WordTimes(tuple(WordTime(word, 0.5) for word in words)), AudioDelta("AAAA", 1.0)]
        stream = b"".join(map(sse, events))
        assert stream.count(b"\n") == 2 * len(events)
        assert b"\r" not in stream
        first, second = read(cut(stream, sizes))
        assert first["words"] == [{"word": word, "start": 0.5} for word in words]
        assert second == {"type": "speech.audio.delta", "audio": "AAAA", "progress": 1.0}

    check()


def test_deltas_of_any_segments_are_the_transcript() -> None:
    @tries(80)
    @given(st.lists(TEXTS, max_size=5))
    @example(["\x00", " \x1c", "a "])
    def check(texts: list[str]) -> None:
        request = TranscriptionRequest(model="m", include=("logprobs",))
        events = TranscriptEvents(request)
        stream = b"".join(
            events.delta(Segment(at, at + 1, text, (SpokenWord(text, at, at + 1, 0.0),)))
            for at, text in enumerate(texts)
        )
        *deltas, done = read([stream + events.done(TranscriptInfo("en", 1.0), len(texts))])
        assert "".join(str(delta["delta"]) for delta in deltas) == done["text"]

    check()
