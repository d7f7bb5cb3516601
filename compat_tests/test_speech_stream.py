"""Speech as a stream: raw bytes, server-sent events, and how both look on the wire."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from compat_tests.audio import FORMATS, MAGIC, PCM_BYTES_PER_S, SILENCE_RMS, Format, decode
from compat_tests.envelope import assert_platform_headers
from compat_tests.events import audio_of, event_of, events_of
from compat_tests.texts import LONGEST, PARAGRAPH, SENTENCE
from compat_tests.wire import connect, read_chunks, read_head, speech_request


def test_the_first_chunk_comes_long_before_the_last(client: OpenAI) -> None:
    began = time.monotonic()
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=LONGEST, response_format="pcm"
    ) as response:
        assert response.request_id
        body = response.iter_bytes(1024)
        assert next(body)
        first_s = time.monotonic() - began
        assert sum(1 for _ in body) > 1
    assert first_s < (time.monotonic() - began) / 2


def test_stream_to_file_gives_what_create_gives(client: OpenAI, tmp_path: Path) -> None:
    whole = client.audio.speech.create(
        model="tts-1", voice="alloy", input=SENTENCE, response_format="pcm"
    ).content
    path = tmp_path / "speech.pcm"
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=SENTENCE, response_format="pcm"
    ) as response:
        response.stream_to_file(path)
    assert path.stat().st_size == pytest.approx(len(whole), rel=0.01)


@pytest.mark.parametrize("response_format", FORMATS)
def test_sse_deltas_join_to_the_format(client: OpenAI, response_format: Format) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts",
        voice="alloy",
        input=SENTENCE,
        response_format=response_format,
        stream_format="sse",
    ) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert_platform_headers(response.headers)
        *deltas, done = events_of(response.iter_lines())
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    data = audio_of(deltas)
    assert MAGIC[response_format].match(data)
    clip = decode(data, response_format)
    raw = client.audio.speech.create(
        model="gpt-4o-mini-tts", voice="alloy", input=SENTENCE, response_format=response_format
    )
    assert clip.rms > SILENCE_RMS
    assert clip.duration_s == pytest.approx(
        decode(raw.content, response_format).duration_s, rel=0.01
    )
    assert done["type"] == "speech.audio.done"
    usage = done["usage"]
    assert set(usage) >= {"input_tokens", "output_tokens", "total_tokens"}
    assert all(type(count) is int for count in usage.values())
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_an_sse_body_is_data_lines_and_blank_lines(http: httpx.Client) -> None:
    answer = http.post(
        "/v1/audio/speech",
        json={"model": "tts-1", "voice": "alloy", "input": SENTENCE, "stream_format": "sse"},
    )
    assert answer.text.endswith("\n\n")
    for event in answer.text.removesuffix("\n\n").split("\n\n"):
        assert event_of(event)["type"] in {"speech.audio.delta", "speech.audio.done"}


def test_stream_true_asks_for_sse(http: httpx.Client) -> None:
    answer = http.post(
        "/v1/audio/speech",
        json={"model": "tts-1", "voice": "alloy", "input": "Hello.", "stream": True},
    )
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert MAGIC["mp3"].match(audio_of(events_of(answer.text.splitlines())))


def test_chunks_of_pcm_end_on_a_sample(http: httpx.Client) -> None:
    body = {"model": "tts-1", "voice": "alloy", "input": PARAGRAPH, "response_format": "pcm"}
    base_url = str(http.base_url)
    with connect(base_url) as connection, connection.makefile("rb") as stream:
        connection.sendall(speech_request(base_url, body))
        status, headers = read_head(stream)
        sizes = [len(chunk) for chunk in read_chunks(stream)]
    assert status == httpx.codes.OK
    assert headers["transfer-encoding"] == "chunked"
    assert "content-length" not in headers
    assert len(sizes) > 1
    assert [size % 2 for size in sizes] == [0] * len(sizes)


def test_the_first_wav_chunk_holds_the_whole_header(http: httpx.Client) -> None:
    body = {"model": "tts-1", "voice": "alloy", "input": PARAGRAPH, "response_format": "wav"}
    base_url = str(http.base_url)
    with connect(base_url) as connection, connection.makefile("rb") as stream:
        connection.sendall(speech_request(base_url, body))
        read_head(stream)
        first, *_ = read_chunks(stream)
    assert len(first) >= 44
    assert first[36:40] == b"data"


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
def test_a_stream_is_never_compressed(http: httpx.Client, stream_format: str) -> None:
    answer = http.post(
        "/v1/audio/speech",
        headers={"accept-encoding": "gzip, deflate, br, zstd"},
        json={
            "model": "tts-1",
            "voice": "alloy",
            "input": SENTENCE,
            "stream_format": stream_format,
        },
    )
    assert answer.is_success
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("accept", ["application/octet-stream", "*/*", "application/json"])
def test_accept_is_never_negotiated(http: httpx.Client, accept: str) -> None:
    answer = http.post(
        "/v1/audio/speech",
        headers={"accept": accept},
        json={"model": "tts-1", "voice": "alloy", "input": "Hello."},
    )
    assert answer.headers["content-type"] == "audio/mpeg"


def test_streams_side_by_side_keep_their_own_audio(client: OpenAI) -> None:
    texts = [" ".join([SENTENCE] * count) for count in (1, 2, 3)]

    def seconds(text: str) -> float:
        answer = client.audio.speech.create(
            model="tts-1", voice="alloy", input=text, response_format="pcm"
        )
        return len(answer.content) / PCM_BYTES_PER_S

    alone = [seconds(text) for text in texts]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(seconds, texts * 8))
    assert together == pytest.approx(alone * 8, rel=0.01)
