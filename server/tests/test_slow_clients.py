"""Clients that send or read too slowly, over a real socket."""

import json

import pytest

from server.settings import Limits, Settings
from server.tests.fakes import FakeEngine
from server.tests.served import EndlessEngine, Talk, served

SPEECH = "/v1/audio/speech"
HELLO = json.dumps(
    {"model": "tts-1", "voice": "low", "input": "one two", "response_format": "pcm"}
).encode()
GET = b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /health HTTP/1.1\r\nhost: a\r\nx-slow: "])
def test_a_head_that_does_not_come_ends_the_connection(sent: bytes) -> None:
    with served(FakeEngine(), Settings(limits=Limits(head_read_s=0.1))) as port, Talk(port) as talk:
        talk.say(sent)
        assert talk.is_ended()


@pytest.mark.parametrize("sent", [b"\r\n", b"G", GET[:-2]])
def test_a_later_head_has_no_more_time_than_the_first(sent: bytes) -> None:
    with served(FakeEngine(), Settings(limits=Limits(head_read_s=0.3))) as port, Talk(port) as talk:
        talk.say(GET)
        assert talk.status() == 200
        talk.say(sent)
        assert talk.is_ended()


@pytest.mark.parametrize(
    "begin",
    [
        b"GET /health HTTP/1.1\r\n",
        # Its headers are trailers.
        (
            b"POST /v1/audio/speech HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
            b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
        ),
    ],
)
def test_headers_without_end_end_the_connection(begin: bytes) -> None:
    unhurried = Limits(head_read_s=1000, body_read_s=1000)
    with served(FakeEngine(), Settings(limits=unhurried)) as port, Talk(port) as talk:
        talk.say(begin)
        assert talk.floods(b"x-more: " + b"a" * 8192 + b"\r\n")


@pytest.mark.parametrize("long", [b"x-more: " + b"a" * 70_000, b"x: y\r\n" * 20_000])
def test_a_head_that_is_too_large_starts_nothing(long: bytes) -> None:
    with served(FakeEngine(), Settings()) as port, Talk(port) as talk:
        talk.say(GET[:-2] + long + b"\r\n\r\n")
        assert talk.is_refused()


def test_a_head_may_be_large() -> None:
    with served(FakeEngine(), Settings()) as port, Talk(port) as talk:
        talk.say(GET[:-2] + b"x-more: " + b"a" * 60_000 + b"\r\n\r\n")
        assert talk.status() == 200


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        (SPEECH, "application/json"),
        ("/v1/audio/voices", "multipart/form-data; boundary=b"),
        ("/api/tts", "application/x-www-form-urlencoded"),
    ],
)
def test_a_body_that_does_not_come_is_answered_and_the_connection_ended(
    path: str, media_type: str
) -> None:
    with served(FakeEngine(), Settings(limits=Limits(body_read_s=0.1))) as port, Talk(port) as talk:
        talk.post(path, b"--b\r\n", media_type, length=1000)
        assert talk.status() == 408
        assert talk.is_ended()


def test_a_body_in_time_may_be_followed_by_another() -> None:
    with served(FakeEngine(), Settings()) as port, Talk(port) as talk:
        talk.post(SPEECH, HELLO[:-1], length=len(HELLO))
        talk.say(HELLO[-1:])
        assert talk.status() == 200


def test_a_reader_that_stalls_is_left_and_its_job_ended() -> None:
    engine = EndlessEngine()
    settings = Settings(limits=Limits(stalled_reader_s=0.2))
    with served(engine, settings) as port, Talk(port, receive_bytes=4096) as talk:
        talk.post(SPEECH, HELLO)
        assert talk.status() == 200
        assert engine.has_ended.wait(10)
        assert talk.is_ended()


def test_an_answer_that_takes_too_long_is_broken_off() -> None:
    engine = EndlessEngine()
    with served(engine, Settings(limits=Limits(request_s=1.0))) as port, Talk(port) as talk:
        talk.post(SPEECH, HELLO)
        assert talk.status() == 200
        assert talk.is_ended()
        assert engine.has_ended.wait(10)


def test_a_request_that_takes_too_long_before_its_answer_is_told_so() -> None:
    whole = json.dumps({**json.loads(HELLO), "stream": False}).encode()
    engine = EndlessEngine()
    with served(engine, Settings(limits=Limits(request_s=0.2))) as port, Talk(port) as talk:
        talk.post(SPEECH, whole)
        assert talk.status() == 503
        assert engine.open_streams == 0
