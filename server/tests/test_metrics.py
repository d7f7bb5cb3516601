import re
from typing import Any

import pytest
from litestar.testing import TestClient

from engine.config import PoolConfig, WorkerConfig
from engine.runtime.pool import EnginePool
from engine.types import DeviceMemory, StageSteps, WorkerStatus
from server.app import create_app
from server.catalog import Engines
from server.errors import ApiError
from server.metrics import (
    Histogram,
    RequestTotals,
    engine_metrics,
    queue_metrics,
    server_metrics,
)
from server.queueing import FairQueue, Waiter
from server.schemas.requests import RequestEntry
from server.settings import KeyLimits, Limits, Settings
from server.tallies import ended_connections, refusals
from server.tests.fakes import FakeEngine
from server.tests.served import WAIT_S, EndlessEngine, Talk, served


def entry(**changes: object) -> RequestEntry:
    return RequestEntry(
        **{  # type: ignore[arg-type]
            "id": "req_1",
            "task": "speech",
            "created_at": 1,
            "model": "tts-1",
            "engine": "fake",
            "voice": "low",
            "format": "pcm",
            "status": "done",
            "error": None,
            "ttfa_s": 0.2,
            "audio_s": 2.5,
            "rtf": 0.04,
            "underrun_s": 0.0,
            "wall_s": 0.5,
            **changes,
        }
    )


def test_bucket_holds_all_that_is_not_above_it() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value)
    assert list(histogram.lines("m", 'a="b"')) == [
        'm_bucket{a="b",le="0.1"} 2',
        'm_bucket{a="b",le="1.0"} 3',
        'm_bucket{a="b",le="+Inf"} 4',
        'm_sum{a="b"} 7.65',
        'm_count{a="b"} 4',
    ]


def test_requests_are_counted_by_how_they_ended() -> None:
    totals = RequestTotals()
    for ended, error in (
        (entry(), None),
        (entry(underrun_s=0.3), None),
        (entry(status="left"), None),
        (entry(status="failed", error="engine_died"), ApiError(500, "died", code="engine_died")),
        (entry(status="failed", error="invalid_value"), ApiError(400, "bad", code="invalid_value")),
    ):
        totals.began("speech")
        totals.ended(ended, error)
    lines = totals.text().splitlines()
    fake = 'task="speech",engine="fake"'
    for outcome, count in (
        ('outcome="done",code="",status=""', 2),
        ('outcome="left",code="",status=""', 1),
        ('outcome="failed",code="engine_died",status="5xx"', 1),
        ('outcome="failed",code="invalid_value",status="4xx"', 1),
    ):
        assert f"rhapsode_requests_total{{{fake},{outcome}}} {count}" in lines
    assert f"rhapsode_audio_seconds_total{{{fake}}} 12.5" in lines
    assert f"rhapsode_underrun_streams_total{{{fake}}} 1" in lines
    assert f'rhapsode_ttfa_seconds_bucket{{{fake},le="0.1"}} 0' in lines
    assert f'rhapsode_ttfa_seconds_bucket{{{fake},le="0.2"}} 5' in lines
    assert f"rhapsode_rtf_count{{{fake}}} 5" in lines


def test_requests_in_flight_are_those_that_have_begun_and_not_ended() -> None:
    totals = RequestTotals()
    totals.began("speech")
    totals.began("speech")
    totals.ended(entry(), None)
    lines = totals.text().splitlines()
    assert 'rhapsode_requests_in_flight{task="speech"} 1' in lines
    assert 'rhapsode_requests_in_flight{task="transcription"} 0' in lines


def test_compute_of_a_client_that_left_is_lost_and_no_other() -> None:
    totals = RequestTotals()
    for ended, compute_s in (
        (entry(status="left"), 0.5),
        (entry(), 2.0),
        (entry(status="left"), 1),
    ):
        totals.began("speech")
        totals.ended(ended, None, compute_s)
    line = 'rhapsode_left_compute_seconds_total{task="speech",engine="fake"} 1.5'
    assert line in totals.text().splitlines()


def test_queue_tells_who_waits_by_tier() -> None:
    queue = FairQueue(1, 9, 9)
    for is_batch in (False, False, True, True, True):
        queue.enter(Waiter(None, is_batch))
    lines = queue_metrics({"fake": queue}).splitlines()
    assert 'rhapsode_queue_running{engine="fake"} 1' in lines
    assert 'rhapsode_queue_waiting{engine="fake",tier="interactive"} 1' in lines
    assert 'rhapsode_queue_waiting{engine="fake",tier="batch"} 3' in lines


def test_metrics_of_a_server_have_all_of_it() -> None:
    pool = EnginePool([WorkerConfig(engine="espeak-ng")], PoolConfig())
    # Not entered: nothing starts.
    client: TestClient[Any] = TestClient(create_app(Settings(), Engines({"espeak-ng": pool})))
    text = client.get("/metrics").text
    assert 'rhapsode_queue_waiting{engine="espeak-ng",tier="batch"} 0' in text
    assert "# TYPE rhapsode_refusals_total counter" in text
    assert text.count("# TYPE") == len(set(re.findall(r"# TYPE (\w+)", text)))


def test_request_that_is_refused_is_counted_by_what_refused_it() -> None:
    settings = Settings(api_keys=("k",), key_limits=KeyLimits(requests_per_minute=1))
    app = create_app(settings, Engines({"espeak-ng": FakeEngine()}))
    before = refusals.copy()
    body = {"model": "tts-1", "voice": "low", "input": "one"}
    with TestClient(app) as client:
        client.headers["authorization"] = "Bearer k"
        statuses = [client.post("/v1/audio/speech", json=body).status_code for _ in range(3)]
        lines = client.get("/metrics").text.splitlines()
    assert statuses == [200, 429, 429]
    reason = "requests_per_minute"
    assert refusals - before == {reason: 2}
    assert f'rhapsode_refusals_total{{reason="{reason}"}} {refusals[reason]}' in lines


def test_reader_that_stalls_is_counted_by_the_limit_it_passed() -> None:
    engine = EndlessEngine()
    settings = Settings(limits=Limits(stalled_reader_s=0.2))
    before = ended_connections.copy()
    body = b'{"model": "tts-1", "voice": "low", "input": "one", "response_format": "pcm"}'
    with served(engine, settings) as port, Talk(port, receive_bytes=4096) as talk:
        talk.post("/v1/audio/speech", body)
        assert talk.status() == 200
        assert engine.has_ended.wait(WAIT_S)
    assert ended_connections - before == {"stalled_reader_s": 1}
    count = ended_connections["stalled_reader_s"]
    line = f'rhapsode_ended_connections_total{{reason="stalled_reader_s"}} {count}'
    assert line in server_metrics().splitlines()


def test_transcription_has_no_first_audio_and_no_underrun() -> None:
    totals = RequestTotals()
    totals.began("transcription")
    totals.ended(entry(task="transcription", ttfa_s=None, underrun_s=None), None)
    text = totals.text()
    assert 'rhapsode_rtf_count{task="transcription",engine="fake"} 1' in text
    assert "rhapsode_ttfa_seconds_count" not in text
    assert "rhapsode_underrun_streams_total{" not in text


@pytest.mark.parametrize(
    "text", [RequestTotals().text(), engine_metrics({}), queue_metrics({"e": FairQueue(1, 1, 1)})]
)
def test_nothing_counted_is_types_and_zeros(text: str) -> None:
    assert text.endswith("\n")
    for line in text.splitlines():
        assert line.startswith("# TYPE ") or line.endswith(" 0")


def test_jobs_of_an_engine_are_those_of_its_workers() -> None:
    worker = WorkerStatus(
        residence="resident",
        device='the "big" one',
        memory=DeviceMemory("cpu", 1, 3, 2),
        idle_s=None,
        jobs=2,
        restarts=0,
        wakes=0,
        wake_s=0.0,
        error=None,
    )
    lines = engine_metrics({"fake": (worker, worker)}).splitlines()
    assert 'rhapsode_engine_jobs{engine="fake"} 4' in lines
    labels = r'engine="fake",worker="1",device="the \"big\" one"'
    assert f"rhapsode_worker_jobs{{{labels}}} 2" in lines


def test_steps_and_their_jobs_are_told_by_stage() -> None:
    worker = WorkerStatus(
        residence="resident",
        device="cuda:0",
        memory=None,
        idle_s=None,
        jobs=0,
        restarts=0,
        wakes=0,
        wake_s=0.0,
        error=None,
        steps=(StageSteps("decode", steps=10, jobs=35), StageSteps("render", steps=2, jobs=3)),
    )
    lines = engine_metrics({"fake": (worker,)}).splitlines()
    for stage, steps, jobs in (("decode", 10, 35), ("render", 2, 3)):
        labels = f'engine="fake",worker="0",device="cuda:0",stage="{stage}"'
        assert f"rhapsode_worker_steps_total{{{labels}}} {steps}" in lines
        assert f"rhapsode_worker_step_jobs_total{{{labels}}} {jobs}" in lines
