"""The load bench: its arithmetic, and each scenario against a server whose engine gives tones."""

import asyncio
import json
import resource
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from server.bench.load_client import Answer, Request, Target, ask
from server.bench.load_drive import Round, arrivals, open_loop
from server.bench.load_figures import (
    Bounds,
    is_within,
    memory_figures,
    most_at_once,
    round_figures,
    slope,
)
from server.bench.load_leavers import gone_after
from server.bench.load_plan import LoadPlan, take_descriptors
from server.bench.load_probe import Memory, Sample
from server.bench.measure import PCM_BYTES_PER_S, Address, BenchError, Figures, Stream
from server.cli import main

TONE = "engine.tests.fake:ToneSynthesizer"
SECOND = PCM_BYTES_PER_S


def answer(sent_s: float, first_s: float, ended_s: float, digest: str = "right") -> Answer:
    stream = Stream(sent_s, [(first_s, SECOND), (ended_s, SECOND)], is_whole=True)
    return Answer("speech", stream, 200, None, sent_s, ended_s, digest)


def test_arrivals_are_the_same_for_a_seed_and_as_many_as_the_rate_says() -> None:
    drawn = arrivals(50, 100, 0.25, 7)
    assert drawn == arrivals(50, 100, 0.25, 7)
    assert drawn != arrivals(50, 100, 0.25, 8)
    assert len(drawn) == pytest.approx(5000, rel=0.05)
    assert [each.at_s for each in drawn] == sorted(each.at_s for each in drawn)
    listening = sum(each.task == "transcription" for each in drawn)
    assert listening == pytest.approx(1250, rel=0.1)
    # Of a Poisson process: the waits' deviation is their mean, not nothing.
    waits = [b.at_s - a.at_s for a, b in pairwise(drawn)]
    assert sum(wait < 0.005 for wait in waits) / len(waits) == pytest.approx(0.22, abs=0.03)


def test_figures_tell_refusals_failures_and_wrong_audio_apart() -> None:
    refused = Answer("speech", Stream(0.0), 429, "overloaded", 0.0)
    broken = Answer("speech", Stream(0.0, [(0.5, SECOND)]), 200, "broken_off", 0.0)
    waiting = Answer("speech", Stream(0.0))
    answers = [answer(0.0, 0.1, 1.6), answer(0.5, 0.7, 1.0, "wrong"), refused, broken, waiting]
    looks = [Sample(at_s=1.0, health_s=0.002), Sample(at_s=9.0, health_s=5.0)]
    figures = round_figures(Round(answers, 0.0, 2.0), looks, {"speech": "right"})
    assert figures["outcomes"] == {
        "200": 2, "429 overloaded": 1, "200 broken_off": 1, "unfinished": 1
    }  # fmt: skip
    assert [figures[name] for name in ("refused", "failed", "unfinished")] == [1, 1, 1]
    assert figures["different"] == 1
    assert figures["at_once"] == 2
    assert figures["share_with_underrun"] == pytest.approx(1 / 3, abs=1e-4)
    assert figures["audio_s_per_s"] == 2.5
    health = figures["health"]
    assert isinstance(health, dict)
    assert (health["n"], health["max_ms"]) == (1, 2.0)


def test_answers_that_touch_are_not_at_once() -> None:
    assert most_at_once([answer(0, 1, 2), answer(2, 3, 4), answer(3, 4, 5)]) == 2


def test_slope_is_that_of_the_line() -> None:
    assert slope([(0, 10), (1, 12), (2, 14)]) == 2
    assert slope([(0, 10), (1, 16), (2, 10)]) == 0
    assert slope([(1, 10), (1, 12)]) is None


def test_memory_that_settles_has_no_slope_and_a_leak_has_one() -> None:
    def over_time(mib: list[float]) -> Figures:
        samples = [
            Sample(at_s=60.0 * at, health_s=0.001, memory=Memory(each, 5.0, 16))
            for at, each in enumerate(mib)
        ]
        figures = memory_figures(samples)
        assert figures is not None
        server = figures["server_mib"]
        assert isinstance(server, dict)
        return server

    settled = over_time([50, 80, *[100.0] * 7])
    assert (settled["first"], settled["last"], settled["mib_per_min"]) == (50, 100, 0)
    assert over_time([100 + 3.0 * at for at in range(9)])["mib_per_min"] == 3
    assert memory_figures([Sample(at_s=0.0, health_s=None)]) is None


ROW: Figures = {
    "ttfa": {"p95_ms": 400.0},
    "share_with_underrun": 0.01,
    **dict.fromkeys(("refused", "failed", "unfinished", "unsent"), 0),
}


@pytest.mark.parametrize(
    "worse",
    [
        {"ttfa": {"p95_ms": 501.0}},
        {"ttfa": {"n": 0}},
        {"share_with_underrun": 0.02},
        {"share_with_underrun": None},
        {"refused": 1},
        {"failed": 1},
        {"unfinished": 1},
        {"unsent": 1},
    ],
)
def test_a_knee_is_where_all_are_served_in_time(worse: Figures) -> None:
    bounds = Bounds(ttfa_p95_ms=500.0, underrun_share=0.01)
    assert is_within(ROW, bounds)
    assert not is_within({**ROW, **worse}, bounds)


def test_a_job_is_gone_when_it_never_comes_back() -> None:
    assert gone_after([(0.01, 3), (0.02, 1), (0.03, 0)], 3) == [0.02, 0.02, 0.03]
    assert gone_after([(0.01, 0), (0.02, 2), (0.03, 0)], 2) == [0.03, 0.03]
    assert gone_after([(0.01, 2), (5.0, 1)], 2) == [5.0]


@pytest.fixture
def limits() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("limits")
def test_descriptors_that_are_not_allowed_are_said_before_anything_starts() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pytest.raises(BenchError, match="descriptors"):
        take_descriptors(hard)
    take_descriptors(10)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard


@pytest.mark.parametrize(
    "plan",
    [
        LoadPlan(rates=(0.0,)),
        LoadPlan(crowds=(0,)),
        LoadPlan(transcription_share=1.5),
        LoadPlan(minutes=-1.0),
    ],
)
def test_a_plan_that_cannot_be_is_refused(plan: LoadPlan) -> None:
    with pytest.raises(BenchError):
        plan.check()


async def raw_server(reply: bytes) -> tuple[asyncio.Server, Target]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    return server, Target(Address(host, port))


REQUEST = Request("speech", b"POST / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n4\r\nabcd\r\n0\r\n\r\n", "200"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "200"),
        (b"HTTP/1.1 200 OK\r\n\r\n4\r\nabcd\r\n", "200 broken_off"),
        (b"HTTP/1.1 200 OK\r\n\r\n0\r\n\r\n", "200 empty"),
        (b'HTTP/1.1 429 No\r\n\r\n{"error": {"code": "overloaded"}}', "429 overloaded"),
        (b"HTTP/1.1 500 No\r\n\r\n<html>", "500 error"),
        (b"", "broken_off"),
    ],
)
def test_each_end_of_an_answer_has_a_name(reply: bytes, outcome: str) -> None:
    async def asked() -> Answer:
        server, target = await raw_server(reply)
        async with server:
            got = Answer("speech", Stream(0.0))
            await ask(target, REQUEST, got)
            return got

    assert asyncio.run(asked()).outcome == outcome


def test_nobody_listening_is_an_outcome() -> None:
    async def asked() -> Answer:
        server, target = await raw_server(b"")
        server.close()
        await server.wait_closed()
        got = Answer("speech", Stream(0.0))
        await ask(target, REQUEST, got)
        return got

    assert asyncio.run(asked()).outcome == "no_connection"


def test_an_open_loop_sends_no_more_than_may_be_in_flight() -> None:
    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def driven() -> Round:
        server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        async with server:
            due = arrivals(1000, 0.05, 0, 0)
            return await open_loop(Target(Address(host, port)), {"speech": REQUEST}, due, 3, 0.1)

    heard = asyncio.run(driven())
    assert len(heard.answers) == 3
    assert heard.unsent == len(arrivals(1000, 0.05, 0, 0)) - 3
    assert all(each.outcome == "unfinished" for each in heard.answers)


def bench(out: Path, *more: str) -> dict[str, object]:
    command = ["bench", "load", "--engine", TONE, "--voice", "low", "--commit", "abc1234"]
    assert main([*command, "--text", "one two three", "--out", str(out), *more]) == 0
    stored = json.loads(out.read_text())
    assert stored["commit"] == "abc1234"
    figures: dict[str, object] = stored["figures"]
    return figures


@pytest.mark.usefixtures("limits")
def test_a_sweep_ends_behind_its_knee(tmp_path: Path) -> None:
    out = tmp_path / "rates.json"
    # Nothing is as quick as the second rate is asked to be: it is never reached.
    figures = bench(out, "--rates", "9", "5", "--seconds", "0.5", "--ttfa-p95-ms", "0.01")
    rows = figures["rates"]
    assert isinstance(rows, list)
    assert [row["rate_per_s"] for row in rows] == [5]
    assert (figures["knee_per_s"], figures["knee_is_found"]) == (None, True)
    assert rows[0]["memory"]["server_mib"]["first"] > 10
    assert rows[0]["health"]["failed"] == 0
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("limits")
def test_a_crowd_is_heard_and_compared(tmp_path: Path) -> None:
    out = tmp_path / "crowd.json"
    figures = bench(out, "--scenario", "crowd", "--crowds", "3")
    rows = figures["crowds"]
    assert isinstance(rows, list)
    assert rows[0]["outcomes"] == {"200": 3}
    assert rows[0]["different"] == 0
    assert rows[0]["ttfa"]["n"] == 3
    assert out.with_suffix(".png").exists()


@pytest.mark.usefixtures("limits")
def test_who_leaves_is_followed_to_the_end(tmp_path: Path) -> None:
    sizes = ("--leavers", "5", "--early-leavers", "2", "--wave", "3")
    figures = bench(tmp_path / "leavers.json", "--scenario", "leavers", *sizes)
    middle, early = figures["mid_stream"], figures["before_first_byte"]
    assert isinstance(middle, dict)
    assert isinstance(early, dict)
    assert (middle["jobs_seen"], middle["gone"]["n"], middle["left_by_metrics"]) == (5, 5, 5)
    assert middle["jobs_after"] == middle["in_flight_after"] == 0
    assert early["clients"] == 2
    assert early["jobs_after"] == early["in_flight_after"] == 0


def test_an_address_that_is_none_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "load", "--url", "localhost"]) == 1
    assert "http://HOST:PORT" in capsys.readouterr().err
