"""An engine that is put to sleep by hand, or by its idle clock, and woken by the next request."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from openai import OpenAI

from compat_tests.conftest import API_KEY, TIMEOUT_S
from compat_tests.envelope import assert_envelope
from compat_tests.process import ServerProcess, is_ready, is_running
from compat_tests.texts import LONGEST, SENTENCE
from compat_tests.waiting import wait_for

ENGINE = "espeak-ng"
STATES = {"loading", "resident", "offloaded", "stopped"}


@pytest.fixture(scope="module")
def wakeful(configured_server: Callable[[str], ServerProcess]) -> ServerProcess:
    """A server whose engines sleep only when they are told to."""
    return configured_server("")


@pytest.fixture
def http(wakeful: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=wakeful.base_url, timeout=TIMEOUT_S) as plain:
        yield plain


@pytest.fixture
def client(wakeful: ServerProcess) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=f"{wakeful.base_url}/v1", api_key=API_KEY, max_retries=0, timeout=TIMEOUT_S
    ) as sdk:
        yield sdk


def engine(http: httpx.Client) -> dict[str, Any]:
    entry: dict[str, Any] = http.get(f"/v1/engines/{ENGINE}").raise_for_status().json()
    return entry


def speech(client: OpenAI) -> bytes:
    return client.audio.speech.create(
        model="tts-1", voice="alloy", input=SENTENCE, response_format="pcm"
    ).content


def test_every_engine_tells_its_state_and_what_it_takes(http: httpx.Client) -> None:
    listed = http.get("/v1/engines").json()
    assert listed["object"] == "list"
    assert ENGINE in {entry["id"] for entry in listed["data"]}
    for entry in listed["data"]:
        assert entry["object"] == "engine"
        for worker in entry["workers"]:
            assert worker["state"] in STATES
    (worker,) = engine(http)["workers"]
    assert (worker["state"], worker["device"]) == ("resident", "cpu")
    assert 1 << 20 < worker["used_bytes"] < worker["total_bytes"]


def test_a_stopped_engine_has_no_process_and_speaks_when_it_is_asked_to(
    wakeful: ServerProcess, http: httpx.Client, client: OpenAI
) -> None:
    before = speech(client)
    (pid,) = wakeful.workers(ENGINE)
    stopped = http.post(f"/v1/engines/{ENGINE}/stop").raise_for_status().json()
    assert (stopped["state"], stopped["workers"][0]["used_bytes"]) == ("stopped", 0)
    assert not is_running(pid)
    assert is_ready(wakeful.base_url)
    assert speech(client) == before
    assert engine(http)["state"] == "resident"


def test_a_crowd_wakes_it_once_and_all_are_served(http: httpx.Client, client: OpenAI) -> None:
    expected = speech(client)
    http.post(f"/v1/engines/{ENGINE}/stop").raise_for_status()
    wakes = engine(http)["workers"][0]["wakes"]
    together = threading.Barrier(32)

    def speak() -> bytes:
        together.wait()
        return speech(client)

    with ThreadPoolExecutor(32) as threads:
        answers = [threads.submit(speak) for _ in range(32)]
        assert {answer.result(TIMEOUT_S) for answer in answers} == {expected}
    assert engine(http)["workers"][0]["wakes"] == wakes + 1


def test_an_engine_that_speaks_is_not_stopped(http: httpx.Client, client: OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=LONGEST, response_format="pcm", speed=0.25
    ) as response:
        body = response.iter_bytes(1024)
        assert next(body)
        assert_envelope(http.post(f"/v1/engines/{ENGINE}/stop"), 400, code="engine_busy")
        assert next(body)
    wait_for(lambda: engine(http)["jobs"] == 0, TIMEOUT_S, "the stream has ended")


def test_what_cannot_be_done_says_why(http: httpx.Client) -> None:
    # All that the embedded engine has is on the host already.
    assert_envelope(http.post(f"/v1/engines/{ENGINE}/offload"), 400, code="invalid_value")
    assert_envelope(http.get("/v1/engines/nope"), 404, code="engine_not_found")
    assert_envelope(http.post("/v1/engines/nope/stop"), 404, code="engine_not_found")
    assert_envelope(http.get(f"/v1/engines/{ENGINE}/stop"), 405)


def test_metrics_are_prometheus_text(http: httpx.Client) -> None:
    http.post(f"/v1/engines/{ENGINE}/load").raise_for_status()
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    labels = f'engine="{ENGINE}",worker="0",device="cpu"'
    assert f'rhapsode_worker_state{{{labels},state="resident"}} 1' in answer.text
    assert f"rhapsode_worker_wakes_total{{{labels}}}" in answer.text


def test_the_idle_clock_stops_an_engine_and_a_request_starts_it(
    configured_server: Callable[[str], ServerProcess],
) -> None:
    server = configured_server("[pool]\nidle_stop_s = 0.3")
    with (
        httpx.Client(base_url=server.base_url, timeout=TIMEOUT_S) as http,
        OpenAI(base_url=f"{server.base_url}/v1", api_key=API_KEY, max_retries=0) as client,
    ):
        wait_for(lambda: engine(http)["state"] == "stopped", TIMEOUT_S, "it has gone to sleep")
        assert is_ready(server.base_url)
        assert speech(client)
        wait_for(lambda: engine(http)["state"] == "stopped", TIMEOUT_S, "it sleeps again")
