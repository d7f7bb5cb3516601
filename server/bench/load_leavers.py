"""Clients that leave: how soon their jobs are gone, and whether anything of them stays.

Nobody else may use the server meanwhile: jobs are counted.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import accumulate
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from server.bench.load_client import Request, Target, fetch
from server.bench.load_probe import memory_of
from server.bench.measure import BenchError, Figures, milliseconds

Stage = Literal["before_first_byte", "mid_stream"]
Looks: TypeAlias = Sequence[tuple[float, int]]
"""Seconds since clients left, and how many jobs there are."""

_BEGIN_S = 20.0
"""Within which a wave has to have its first audio."""
_GONE_S = 5.0
"""How long jobs are looked for that do not go."""
_QUIET_S = 0.2
"""After which no job begins any more for a client that left early."""
_PAUSE_S = 0.002
_PIECE_BYTES = 4096
_LEFT = re.compile(r'^rhapsode_requests_total\{.*outcome="left".*\} (\d+)', re.MULTILINE)
_IN_FLIGHT = re.compile(r"^rhapsode_requests_in_flight\{.*\} (\d+)", re.MULTILINE)


class Wave(Struct, frozen=True):
    """Some clients that left in one moment."""

    gone_s: list[float]
    """From then until a look that found one job less: of each job that was seen."""
    refused: int
    stayed: int
    """Jobs that were still there in the end."""


class _Engine(Struct, frozen=True):
    jobs: int


class _Readiness(Struct, frozen=True):
    engines: dict[str, _Engine]


def leave(target: Target, request: Request, count: int, wave: int, stage: Stage) -> Figures:
    """Have clients ask for a long stream and leave, so many at once.

    Raises:
        BenchError: the server has other jobs, or the streams did not begin.
    """
    if jobs_of(target):
        raise BenchError("the server has jobs of others: their end cannot be told from ours")
    # What is opened once and kept is no leak.
    _one_wave(target, request, min(wave, count), stage)
    descriptors, left = _descriptors(target), _counted(target, _LEFT)
    sizes = [min(wave, count - done) for done in range(0, count, wave)]
    waves = [_one_wave(target, request, size, stage) for size in sizes]
    time.sleep(_QUIET_S)
    return {
        "clients": count,
        "at_once": max(sizes),
        "refused": sum(each.refused for each in waves),
        "jobs_seen": sum(len(each.gone_s) + each.stayed for each in waves),
        "gone": milliseconds([gone_s for each in waves for gone_s in each.gone_s]),
        "left_by_metrics": _counted(target, _LEFT) - left,
        "jobs_after": jobs_of(target),
        "in_flight_after": _counted(target, _IN_FLIGHT),
        "descriptors_before": descriptors,
        "descriptors_after": _descriptors(target),
    }


def jobs_of(target: Target) -> int:
    """That the server has now, by /ready."""
    readiness = msgspec.json.decode(fetch(target, "GET", "/ready"), type=_Readiness)
    return sum(engine.jobs for engine in readiness.engines.values())


def gone_after(looks: Looks, jobs: int) -> list[float]:
    """When each of so many jobs was seen to be gone for good, s; those that stayed are left out."""
    # From each look on, the most that there ever are: a job that begins late has not gone before.
    later = list(accumulate((count for _, count in reversed(looks)), max))[::-1]
    firsts = (
        next((at_s for (at_s, _), most in zip(looks, later, strict=True) if most <= left), None)
        for left in reversed(range(jobs))
    )
    return [at_s for at_s in firsts if at_s is not None]


def _one_wave(target: Target, request: Request, count: int, stage: Stage) -> Wave:
    address = target.address.host, target.address.port
    is_mid = stage == "mid_stream"
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(address, _BEGIN_S)) for _ in range(count)
        ]
        for client in clients:
            client.sendall(request.data)
        kept = [client for client in clients if _is_heard(client)] if is_mid else clients
        for client in set(clients) - set(kept):
            client.close()
        if is_mid and (jobs := jobs_of(target)) != len(kept):
            raise BenchError(f"{len(kept)} streams have begun, and there are {jobs} jobs")
        if not is_mid:
            _await_a_job(target)
        left_at = time.perf_counter()
    looks = _looks(target, left_at, lambda quiet_s: is_mid or quiet_s >= _QUIET_S)
    jobs = len(kept) if is_mid else max(jobs for _, jobs in looks)
    gone_s = gone_after(looks, jobs)
    return Wave(gone_s, count - len(kept), jobs - len(gone_s))


def _is_heard(client: socket.socket) -> bool:
    """Wait for the first audio; False: it was refused."""
    data = b""
    while not data.partition(b"\r\n\r\n")[2]:
        if not (piece := client.recv(_PIECE_BYTES)):
            raise BenchError("a stream broke off before its first audio")
        data += piece
    return data.split(maxsplit=2)[1] == b"200"


def _await_a_job(target: Target) -> None:
    """Until the first of a wave's requests has reached the engine; the others are on their way."""
    deadline = time.perf_counter() + _BEGIN_S
    while not jobs_of(target):
        if time.perf_counter() > deadline:
            raise BenchError("no stream has begun")
        time.sleep(_PAUSE_S)


def _looks(target: Target, left_at: float, may_end: Callable[[float], bool]) -> Looks:
    """Until there are no jobs; `may_end` is asked with the seconds for which there were none."""
    looks: list[tuple[float, int]] = []
    busy_s = 0.0
    while not looks or looks[-1][0] < _GONE_S:
        jobs = jobs_of(target)
        at_s = time.perf_counter() - left_at
        looks.append((at_s, jobs))
        if jobs:
            busy_s = at_s
        elif may_end(at_s - busy_s):
            break
        time.sleep(_PAUSE_S)
    return looks


def _descriptors(target: Target) -> int | None:
    return None if target.pid is None else memory_of(target.pid).descriptors


def _counted(target: Target, metric: re.Pattern[str]) -> int:
    text = fetch(target, "GET", "/metrics").decode()
    return sum(int(value) for value in metric.findall(text))
