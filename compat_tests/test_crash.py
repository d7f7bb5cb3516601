"""A worker that dies: its streams break, never end as if whole; the next call works."""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIConnectionError, DefaultHttpxClient, OpenAI

from compat_tests.conftest import needs_own_process
from compat_tests.envelope import assert_envelope, assert_error_body
from compat_tests.events import event_of
from compat_tests.process import (
    PYTHON,
    ROOT,
    ServerProcess,
    engine_states,
    has_recovered,
    is_ready,
    is_running,
)
from compat_tests.sdk import BrokenBody
from compat_tests.texts import LONGEST, SENTENCE
from compat_tests.waiting import wait_for

ENGINE = "espeak-ng"
RECOVERED_WITHIN_S = 5.0


@pytest.fixture(scope="module")
def fragile(server_factory: Callable[[Mapping[str, str]], ServerProcess]) -> ServerProcess:
    """A server whose worker the tests of this module kill."""
    return server_factory({})


@pytest.fixture
def client(fragile: ServerProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{fragile.base_url}/v1", api_key="sk-test", max_retries=0) as sdk:
        yield sdk


@pytest.fixture
def crashes_once(fragile: ServerProcess, client: OpenAI) -> Iterator[None]:
    """After the test: the worker was restarted once, the server is ready, and it speaks."""
    before = engine_states(fragile.base_url)[ENGINE]["restarts"]
    yield
    wait_for(
        lambda: has_recovered(fragile.base_url, ENGINE, before + 1),
        RECOVERED_WITHIN_S,
        "the worker is back",
    )
    assert httpx.get(f"{fragile.base_url}/ready").status_code == httpx.codes.OK
    assert client.audio.speech.create(model="tts-1", voice="alloy", input=SENTENCE).content


@pytest.mark.usefixtures("crashes_once")
def test_a_crash_breaks_a_streamed_body(fragile: ServerProcess, client: OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=LONGEST, response_format="pcm", speed=0.25
    ) as response:
        body = response.iter_bytes()
        assert next(body)
        fragile.kill_worker(ENGINE)
        with pytest.raises(BrokenBody):
            sum(len(chunk) for chunk in body)


@pytest.mark.usefixtures("crashes_once")
def test_a_crash_breaks_a_buffered_call(fragile: ServerProcess) -> None:
    def crash(response: Any) -> None:
        """Runs between the headers and the body: the first chunk exists, the last does not."""
        assert response.is_success
        fragile.kill_worker(ENGINE)

    with (
        DefaultHttpxClient(event_hooks={"response": [crash]}) as transport,
        OpenAI(
            base_url=f"{fragile.base_url}/v1", api_key="k", max_retries=0, http_client=transport
        ) as client,
        pytest.raises(APIConnectionError),
    ):
        client.audio.speech.create(
            model="tts-1", voice="alloy", input=LONGEST, response_format="pcm", speed=0.25
        )


@pytest.mark.usefixtures("crashes_once")
def test_a_crash_is_an_event_and_then_a_broken_body(fragile: ServerProcess, client: OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts",
        voice="alloy",
        input=LONGEST,
        response_format="pcm",
        speed=0.25,
        stream_format="sse",
    ) as response:
        lines = response.iter_lines()
        events = [event_of(next(lines))]

        def read_on() -> None:
            for line in filter(None, lines):
                events.append(event_of(line))  # noqa: PERF401 - it ends with an exception

        fragile.kill_worker(ENGINE)
        with pytest.raises(BrokenBody):
            read_on()
    *deltas, last = events
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    assert last["type"] == "speech.audio.error"
    assert_error_body(last["error"])


@pytest.mark.usefixtures("crashes_once")
def test_a_call_right_after_a_crash_is_served_or_told_to_come_back(
    fragile: ServerProcess,
) -> None:
    request = {"model": "tts-1", "voice": "alloy", "input": SENTENCE}
    fragile.kill_worker(ENGINE)
    answer = httpx.post(f"{fragile.base_url}/v1/audio/speech", json=request, timeout=20)
    if answer.status_code == httpx.codes.OK:
        assert answer.content
    else:
        assert_envelope(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.usefixtures("crashes_once")
def test_one_crash_breaks_every_stream_of_the_worker(
    fragile: ServerProcess, client: OpenAI
) -> None:
    with (
        client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="alloy", input=LONGEST, response_format="pcm", speed=0.25
        ) as first,
        client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="alloy", input=LONGEST, response_format="mp3", speed=0.25
        ) as second,
    ):
        bodies = [first.iter_bytes(), second.iter_bytes()]
        assert all(next(body) for body in bodies)
        fragile.kill_worker(ENGINE)
        for body in bodies:
            with pytest.raises(BrokenBody):
                sum(len(chunk) for chunk in body)


def test_a_killed_server_leaves_no_worker_behind(
    server_factory: Callable[[Mapping[str, str]], ServerProcess],
) -> None:
    server = server_factory({})
    workers = server.workers()
    assert workers
    server.kill()
    wait_for(lambda: not any(map(is_running, workers)), 5.0, "its workers have ended")


def test_sigterm_ends_the_server_and_its_workers(
    server_factory: Callable[[Mapping[str, str]], ServerProcess],
) -> None:
    server = server_factory({})
    workers = server.workers()
    assert workers
    assert server.stop() == 0
    assert not any(map(is_running, workers))


def test_the_sdk_comes_back_when_it_is_told_to(
    server_factory: Callable[[Mapping[str, str]], ServerProcess],
) -> None:
    impatient = {"RHAPSODE_POOL__WAIT_S": "0.05", "RHAPSODE_POOL__RESTART_DELAY_S": "0.5"}
    server = server_factory(impatient)
    server.kill_worker(ENGINE)
    wait_for(lambda: not is_ready(server.base_url), 2.0, "the crash is seen")
    with OpenAI(base_url=f"{server.base_url}/v1", api_key="k", max_retries=5) as client:
        answer = client.audio.speech.with_raw_response.create(
            model="tts-1", voice="alloy", input=SENTENCE
        )
    assert answer.retries_taken >= 1
    assert answer.content


def test_kills_under_load_cost_what_was_in_flight_and_nothing_else(tmp_path: Path) -> None:
    """`python -m deploy.tests.kill_workers` kills fifty times; this is the same five times."""
    needs_own_process()
    script = [PYTHON, "-m", "deploy.tests.kill_workers", "--kills", "5", "--clients", "4"]
    script += ["--out", str(tmp_path / "kills.json"), "--commit", "abc"]
    ended = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.stdout, ended.stderr
    assert (tmp_path / "kills.json").read_text() == ended.stdout
    report = json.loads(ended.stdout)
    assert report["command"].startswith("python -m deploy.tests.kill_workers --kills 5")
    assert (report["commit"], report["load_before"] >= 0) == ("abc", True)
    figures = report["figures"]
    assert figures["kills"] == 5
    assert figures["failed"] > 0
    assert figures["failed_untouched"] == 0
    assert figures["short_successes"] == 0
    assert figures["recovery_s"]["max"] < RECOVERED_WITHIN_S
