"""A client that leaves frees the worker at once: each barge-in of a voice agent does this."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from compat_tests.process import ServerProcess, running_jobs
from compat_tests.texts import LONGEST, SENTENCE
from compat_tests.waiting import wait_for
from compat_tests.wire import connect, read_chunks, read_head, speech_request

FREED_WITHIN_S = 1.0
SPARE_DESCRIPTORS = 3
"""Of those who look at the server at that moment."""
LONG_REQUEST = {
    "model": "tts-1",
    "voice": "alloy",
    "input": LONGEST,
    "response_format": "pcm",
    "speed": 0.25,
}
"""A quarter of an hour of audio: far more than the buffers between the worker and us hold."""


@pytest.fixture
def base_url(http: httpx.Client) -> str:
    return str(http.base_url).rstrip("/")


def descriptors(server: ServerProcess) -> int:
    """How many the server has open."""
    return sum(1 for _ in Path(f"/proc/{server.pid}/fd").iterdir())


@pytest.fixture
def assert_freed(base_url: str, client: OpenAI) -> Callable[[], None]:
    """Check that no job runs any more and that the next call works."""

    def check() -> None:
        wait_for(lambda: running_jobs(base_url) == 0, FREED_WITHIN_S, "no job is left")
        assert client.audio.speech.create(model="tts-1", voice="alloy", input=SENTENCE).content

    wait_for(lambda: running_jobs(base_url) == 0, FREED_WITHIN_S, "the server is idle")
    return check


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
def test_leaving_in_the_middle_frees_the_worker(
    base_url: str, client: OpenAI, assert_freed: Callable[[], None], stream_format: str
) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="tts-1",
        voice="alloy",
        input=LONGEST,
        response_format="pcm",
        speed=0.25,
        extra_body={"stream_format": stream_format},
    ) as response:
        body = response.iter_bytes()
        assert next(body)
        assert running_jobs(base_url) == 1
    assert_freed()


def test_leaving_before_the_first_chunk_frees_the_worker(
    base_url: str, assert_freed: Callable[[], None]
) -> None:
    for _ in range(10):
        with connect(base_url) as connection:
            connection.sendall(speech_request(base_url, LONG_REQUEST))
    assert_freed()


def test_a_half_sent_request_starts_no_job(base_url: str, assert_freed: Callable[[], None]) -> None:
    with connect(base_url) as connection:
        connection.sendall(speech_request(base_url, LONG_REQUEST)[:-100])
    assert_freed()


def test_a_crowd_that_leaves_frees_every_worker(
    base_url: str, assert_freed: Callable[[], None]
) -> None:
    crowd = 16
    with ExitStack() as connections:
        for _ in range(crowd):
            connection = connections.enter_context(connect(base_url))
            stream = connections.enter_context(connection.makefile("rb"))
            connection.sendall(speech_request(base_url, LONG_REQUEST))
            status, _ = read_head(stream)
            assert status == httpx.codes.OK
            assert next(read_chunks(stream))
        assert running_jobs(base_url) == crowd
    assert_freed()


@pytest.mark.parametrize("is_heard", [True, False])
def test_fifty_that_leave_at_once_leave_nothing_open(
    own_server: ServerProcess, assert_freed: Callable[[], None], is_heard: bool
) -> None:
    base_url, leavers = own_server.base_url, 50

    def leave() -> None:
        with ExitStack() as connections:
            for _ in range(leavers):
                connection = connections.enter_context(connect(base_url))
                connection.sendall(speech_request(base_url, LONG_REQUEST))
                if is_heard:
                    stream = connections.enter_context(connection.makefile("rb"))
                    assert read_head(stream)[0] == httpx.codes.OK
            if is_heard:
                assert running_jobs(base_url) == leavers
        wait_for(lambda: running_jobs(base_url) == 0, FREED_WITHIN_S, "no job is left")

    # What is opened once and kept, as a thread's, is no leak.
    leave()
    before = descriptors(own_server)
    leave()
    wait_for(
        lambda: descriptors(own_server) <= before + SPARE_DESCRIPTORS, 2.0, "none is left open"
    )
    assert_freed()


def test_a_client_that_does_not_read_holds_up_nobody(
    base_url: str, client: OpenAI, assert_freed: Callable[[], None]
) -> None:
    with connect(base_url) as idle:
        idle.sendall(speech_request(base_url, LONG_REQUEST))
        wait_for(lambda: running_jobs(base_url) == 1, 2.0, "its job runs")
        assert client.audio.speech.create(model="tts-1", voice="alloy", input=SENTENCE).content
        assert running_jobs(base_url) == 1
    assert_freed()
