"""/v1/engines and /metrics over real workers of a tone engine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from engine.config import PoolConfig
from server.app import create_app, create_pools
from server.settings import EngineSettings, Settings

MOVABLE = "engine.tests.fake:MovableTone"
TONE = "engine.tests.fake:ToneSynthesizer"
ENGINES = {
    **{name: EngineSettings(enabled=False) for name in ("glm-tts", "pocketsphinx", "whisper")},
    "espeak-ng": EngineSettings(enabled=False),
    MOVABLE: EngineSettings(devices=("tone:0", "tone:1")),
    TONE: EngineSettings(),
}
SPEECH = {"model": MOVABLE, "input": "one two", "voice": "low", "response_format": "pcm"}

Client = TestClient[Any]


def app_client(**changes: Any) -> Client:
    settings = Settings(engines=ENGINES, speech_engines=(TONE,), **changes)
    return TestClient(create_app(settings, create_pools(settings)))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with app_client() as client:
        yield client


@pytest.fixture
def loaded(client: Client) -> Client:
    for name in (MOVABLE, TONE):
        assert client.post(f"/v1/engines/{name}/load").status_code == 200
    return client


def states(client: Client, name: str = MOVABLE) -> list[str]:
    return [worker["state"] for worker in client.get(f"/v1/engines/{name}").json()["workers"]]


def test_engines_are_listed_with_what_each_worker_takes(loaded: Client) -> None:
    listed = loaded.get("/v1/engines").json()
    assert [engine["id"] for engine in listed["data"]] == [MOVABLE, TONE]
    assert [engine["can_offload"] for engine in listed["data"]] == [True, False]
    movable, tone = listed["data"]
    assert (movable["status"], movable["state"], movable["error"]) == ("ready", "resident", None)
    assert [worker["device"] for worker in movable["workers"]] == ["tone:0", "tone:1"]
    for worker in movable["workers"]:
        assert (worker["used_bytes"], worker["free_bytes"]) == (1000, 9000)
        assert worker["total_bytes"] == 10_000
        assert worker["idle_s"] >= 0
    (worker,) = tone["workers"]
    assert worker["device"] == "cpu"
    assert 1 << 20 < worker["used_bytes"] < worker["total_bytes"]


def test_offload_frees_the_device_and_load_takes_it_again(loaded: Client) -> None:
    answer = loaded.post(f"/v1/engines/{MOVABLE}/offload")
    assert answer.status_code == 200
    assert [each["used_bytes"] for each in answer.json()["workers"]] == [10, 10]
    assert states(loaded) == ["offloaded", "offloaded"]
    assert loaded.get("/ready").status_code == 200
    assert loaded.post(f"/v1/engines/{MOVABLE}/load").json()["state"] == "resident"
    assert states(loaded) == ["resident", "resident"]


def test_stop_ends_the_workers_and_a_request_starts_one(loaded: Client) -> None:
    stopped = loaded.post(f"/v1/engines/{MOVABLE}/stop").json()
    assert [(each["state"], each["used_bytes"]) for each in stopped["workers"]] == [
        ("stopped", 0),
        ("stopped", 0),
    ]
    assert loaded.get("/ready").status_code == 200
    assert loaded.post("/v1/audio/speech", json=SPEECH).status_code == 200
    assert states(loaded) == ["resident", "stopped"]


def test_each_step_down_and_up_may_be_asked_for_twice(loaded: Client) -> None:
    for verb, state in (("offload", "offloaded"), ("stop", "stopped"), ("load", "resident")):
        for _ in range(2):
            answer = loaded.post(f"/v1/engines/{MOVABLE}/{verb}")
            assert (answer.status_code, answer.json()["state"]) == (200, state)
    loaded.post(f"/v1/engines/{MOVABLE}/stop")
    assert loaded.post(f"/v1/engines/{MOVABLE}/offload").json()["state"] == "stopped"


def test_what_cannot_be_done_is_400_and_says_why(loaded: Client) -> None:
    error = loaded.post(f"/v1/engines/{TONE}/offload").json()["error"]
    assert (error["code"], error["type"]) == ("invalid_value", "invalid_request_error")
    assert "stop it instead" in error["message"]
    unknown = loaded.get("/v1/engines/nope")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "engine_not_found")
    assert loaded.post("/v1/engines/nope/load").status_code == 404


def test_an_absent_engine_is_not_said_to_be_loading(tmp_path: Path) -> None:
    whisper = EngineSettings(options={"model": str(tmp_path)})
    settings = Settings(engines={**ENGINES, "whisper": whisper}, speech_engines=(TONE,))
    with TestClient(create_app(settings, create_pools(settings))) as client:
        entry = client.get("/v1/engines/whisper").json()
    assert (entry["status"], entry["state"], entry["can_offload"]) == ("absent", "stopped", False)
    assert {worker["state"] for worker in entry["workers"]} == {"stopped"}
    assert entry["error"]


def test_metrics_tell_state_wakes_and_bytes(loaded: Client) -> None:
    loaded.post(f"/v1/engines/{MOVABLE}/offload")
    answer = loaded.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    labels = f'engine="{MOVABLE}",worker="1",device="tone:1"'
    assert f'rhapsode_worker_state{{{labels},state="offloaded"}} 1' in lines
    assert f'rhapsode_worker_state{{{labels},state="resident"}} 0' in lines
    assert f"rhapsode_worker_device_bytes{{{labels}}} 10" in lines
    assert any(line.startswith(f"rhapsode_worker_wakes_total{{{labels}}}") for line in lines)
    assert any(line.startswith("rhapsode_worker_wake_seconds_total{") for line in lines)


def test_engines_and_metrics_need_a_key() -> None:
    with app_client(api_keys=("key",), pool=PoolConfig()) as client:
        for method, path in (
            ("GET", "/v1/engines"),
            ("GET", f"/v1/engines/{TONE}"),
            ("POST", f"/v1/engines/{TONE}/stop"),
            ("GET", "/metrics"),
        ):
            assert client.request(method, path).status_code == 401
            right = {"authorization": "Bearer key"}
            assert client.request(method, path, headers=right).status_code == 200
