"""stream=True: deltas as they are found, then all of it; and how it looks on the wire."""

from typing import Any

import httpx
import pytest
from openai import OpenAI
from openai.types.audio import TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent

from compat_tests.audio import Clip
from compat_tests.envelope import assert_envelope, assert_platform_headers
from compat_tests.events import event_of
from compat_tests.recordings import encode, silence
from compat_tests.texts import STORY, WEATHER, share_heard
from compat_tests.wire import TRANSCRIPTIONS


@pytest.fixture(scope="module")
def file(two_sentences: Clip) -> tuple[str, bytes]:
    return "two.wav", encode(two_sentences, "wav")


def test_deltas_join_to_the_text_of_a_whole_answer(client: OpenAI, file: tuple[str, bytes]) -> None:
    with client.audio.transcriptions.create(model="whisper-1", file=file, stream=True) as stream:
        *deltas, done = stream
    assert {type(delta) for delta in deltas} == {TranscriptionTextDeltaEvent}
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert len(deltas) >= 2
    assert "".join(delta.delta for delta in deltas) == done.text  # type: ignore[union-attr]
    assert share_heard(f"{WEATHER} {STORY}", done.text) > 0.5
    whole = client.audio.transcriptions.create(model="whisper-1", file=file)
    assert done.text == whole.text
    usage = done.usage
    assert usage is not None
    assert usage.type == "tokens"
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 0


def test_the_sdk_reads_a_stream_with_segments(client: OpenAI, file: tuple[str, bytes]) -> None:
    with client.audio.transcriptions.create(
        model="whisper-1", file=file, stream=True, timestamp_granularities=["segment"]
    ) as stream:
        *parts, done = stream
    times, deltas = parts[::2], parts[1::2]
    assert {part.type for part in times} == {"transcript.text.segment"}
    assert {type(part) for part in deltas} == {TranscriptionTextDeltaEvent}
    spans = [(part.start, part.end) for part in times]  # type: ignore[union-attr]
    assert all(start < end for start, end in spans)
    assert spans == sorted(spans)
    assert "".join(part.delta for part in deltas) == done.text  # type: ignore[union-attr]


def test_every_event_on_the_wire_ends_with_a_blank_line(
    http: httpx.Client, file: tuple[str, bytes]
) -> None:
    answer = http.post(
        TRANSCRIPTIONS, data={"model": "whisper-1", "stream": "true"}, files={"file": file}
    )
    assert_platform_headers(answer.headers)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "content-encoding" not in answer.headers
    assert answer.text.endswith("\n\n")
    blocks = answer.text.removesuffix("\n\n").split("\n\n")
    events = [event_of(block) for block in blocks if not block.startswith(":")]
    assert [event["type"] for event in events[:-1]] == ["transcript.text.delta"] * (len(events) - 1)
    assert events[-1]["type"] == "transcript.text.done"


def logprobs_of(event: Any) -> list[Any]:
    return list(event.logprobs or [])


def test_logprobs_are_given_or_left_out(client: OpenAI, weather_wav: bytes) -> None:
    with client.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=weather_wav, stream=True, include=["logprobs"]
    ) as stream:
        *deltas, done = stream
    found = [each for delta in deltas for each in logprobs_of(delta)]
    assert len(found) == len(logprobs_of(done))
    for each in found:
        assert each.logprob <= 0
        assert bytes(each.bytes).decode() == each.token


def test_silence_streams_to_an_empty_text(client: OpenAI) -> None:
    file = ("silence.wav", encode(silence(2.0), "wav"))
    with client.audio.transcriptions.create(model="whisper-1", file=file, stream=True) as stream:
        (done,) = stream
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert done.text == ""


@pytest.mark.parametrize("stream", ["false", ""])
def test_stream_false_is_a_whole_answer(
    http: httpx.Client, weather_wav: bytes, stream: str
) -> None:
    form = {"model": "whisper-1", "stream": stream}
    answer = http.post(TRANSCRIPTIONS, data=form, files={"file": ("a.wav", weather_wav)})
    assert answer.headers["content-type"] == "application/json"
    assert share_heard(WEATHER, answer.json()["text"]) > 0.5


def test_a_stream_of_no_recording_is_refused_before_it_begins(http: httpx.Client) -> None:
    form = {"model": "whisper-1", "stream": "true"}
    answer = http.post(TRANSCRIPTIONS, data=form, files={"file": ("a.mp3", b"not a sound" * 99)})
    assert_envelope(answer, 400, param="file")
