"""`rhapsode bench load`: what a server does with many clients."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from engine.types import Task
from server.bench.load_client import (
    Answer,
    Request,
    Target,
    ask,
    fetch,
    speech_request,
    transcription_request,
)
from server.bench.load_drive import Round, arrivals, at_once, closed_loop, open_loop
from server.bench.load_figures import health_figures, is_within, memory_figures, round_figures
from server.bench.load_leavers import Stage, leave
from server.bench.load_plan import LoadPlan, Scenario, server_of
from server.bench.load_probe import probing
from server.bench.measure import BenchError, Fields, Figures, Stream

_SPOKEN = "The weather is very nice today."
_LONG_CHARS = 4000
"""Of a text that nobody hears to its end."""
_WITHIN_S = 30.0
"""How long the answers of an open loop may take after the last was due."""
_STAGES: tuple[Stage, ...] = ("mid_stream", "before_first_byte")


class _Load(Struct, frozen=True):
    """What the scenarios share."""

    plan: LoadPlan
    target: Target
    requests: Mapping[Task, Request]
    expected: Mapping[Task, str]
    """Digests of what a lone client was answered."""

    def measured(self, load: Coroutine[Any, Any, Round]) -> Figures:
        with probing(self.target) as samples:
            heard = asyncio.run(load)
        figures = round_figures(heard, samples, self.expected)
        return {**figures, "memory": memory_figures(samples)}

    def open(self, rate: float, seconds: float) -> Figures:
        plan = self.plan
        due = arrivals(rate, seconds, plan.transcription_share, plan.seed)
        loop = open_loop(self.target, self.requests, due, plan.in_flight, _WITHIN_S)
        return {"rate_per_s": rate, **self.measured(loop)}


def run(plan: LoadPlan) -> Iterator[Figures]:
    """Load a server as the plan says.

    Yields:
        More figures, as they are found.
    Raises:
        BenchError: the plan cannot be followed, or a lone client is not answered.
    """
    plan.check()
    yield {"plan": msgspec.to_builtins(plan)}
    with server_of(plan) as target:
        model = json.loads(fetch(target, "GET", f"/v1/models/{plan.model}"))
        yield {"engine": model["description"]}
        yield from _SCENARIOS[plan.scenario](_prepared(plan, target))
    yield {"load_after": round(os.getloadavg()[0], 2)}


def _rates(load: _Load) -> Iterator[Figures]:
    """A sweep; it ends behind the first rate that is out of bounds."""
    rows: list[Figures] = []
    knee = None
    for rate in sorted(load.plan.rates):
        rows.append(load.open(rate, load.plan.seconds))
        is_good = is_within(rows[-1], load.plan.bounds)
        knee = rate if is_good else knee
        yield {"rates": rows, "knee_per_s": knee, "knee_is_found": not is_good}
        if not is_good:
            return


def _clients(load: _Load) -> Iterator[Figures]:
    plan = load.plan
    rows: list[Figures] = []
    for count in plan.clients:
        loop = closed_loop(
            load.target, load.requests, count, plan.seconds, plan.transcription_share, plan.seed
        )
        rows.append({"clients": count, **load.measured(loop)})
        yield {"clients": rows}


def _crowds(load: _Load) -> Iterator[Figures]:
    rows: list[Figures] = []
    for count in load.plan.crowds:
        crowd = at_once(load.target, load.requests["speech"], count)
        rows.append({"clients": count, **load.measured(crowd)})
        yield {"crowds": rows}


def _soak(load: _Load) -> Iterator[Figures]:
    yield {"soak": load.open(load.plan.rates[0], 60 * load.plan.minutes)}


def _leavers(load: _Load) -> Iterator[Figures]:
    plan = load.plan
    text = " ".join([plan.text] * (_LONG_CHARS // (len(plan.text) + 1) or 1))
    long = speech_request(load.target, {**_fields(plan), "input": text, "speed": 0.25})
    for stage, count in zip(_STAGES, (plan.leavers, plan.early_leavers), strict=True):
        with probing(load.target) as samples:
            figures = leave(load.target, long, count, plan.wave, stage)
        told = {"health": health_figures(samples), "memory": memory_figures(samples)}
        yield {stage: {**figures, **told}}


_SCENARIOS: Mapping[Scenario, Callable[[_Load], Iterator[Figures]]] = {
    "rates": _rates,
    "clients": _clients,
    "crowd": _crowds,
    "leavers": _leavers,
    "soak": _soak,
}


def _prepared(plan: LoadPlan, target: Target) -> _Load:
    """Requests, warm, and what a lone client is answered."""
    requests: dict[Task, Request] = {"speech": speech_request(target, _fields(plan))}
    if plan.transcription_share:
        body = {**_fields(plan), "input": _SPOKEN, "response_format": "wav"}
        recording = fetch(target, "POST", "/v1/audio/speech", json.dumps(body).encode())
        requests["transcription"] = transcription_request(target, recording)
    asyncio.run(_alone(target, requests))
    return _Load(plan, target, requests, asyncio.run(_alone(target, requests)))


async def _alone(target: Target, requests: Mapping[Task, Request]) -> dict[Task, str]:
    digests: dict[Task, str] = {}
    for task, request in requests.items():
        answer = Answer(task, Stream(time.perf_counter()))
        await ask(target, request, answer)
        if not answer.is_whole:
            raise BenchError(f"a lone client's {task} was answered: {answer.outcome}")
        digests[task] = answer.digest
    return digests


def _fields(plan: LoadPlan) -> Fields:
    return {"model": plan.model, "voice": plan.voice, "input": plan.text}
