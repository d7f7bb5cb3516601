"""Ways to let clients ask: at times that were drawn before, again and again, all at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct

from engine.types import Task
from server.bench.load_client import Answer, Request, Target, ask
from server.bench.measure import Stream

Requests: TypeAlias = Mapping[Task, Request]

_REFUSED_PAUSE_S = 0.2


class Arrival(Struct, frozen=True):
    """One request of an open loop."""

    at_s: float
    """From the beginning."""
    task: Task


class Round(Struct, frozen=True):
    """What clients got in a stretch of time, by `time.perf_counter`."""

    answers: list[Answer]
    began_s: float
    ended_s: float
    unsent: int = 0
    """Requests that were due while as many as may be were in flight: the bench is bounded, too."""


def arrivals(rate: float, seconds: float, share: float, seed: int) -> list[Arrival]:
    """A Poisson process.

    Args:
        rate: Requests a second, on average.
        seconds: How long.
        share: Of transcriptions, 0 to 1.
        seed: The same one gives the same arrivals.
    """
    random = np.random.default_rng(seed)
    drawn, at_s = [], random.exponential(1 / rate)
    while at_s < seconds:
        drawn.append(Arrival(float(at_s), _drawn_task(random, share)))
        at_s += random.exponential(1 / rate)
    return drawn


async def open_loop(
    target: Target, requests: Requests, due: list[Arrival], at_most: int, within_s: float
) -> Round:
    """Ask when it is due, whether or not others have been answered.

    Args:
        target: Whom.
        requests: Of each task.
        due: By time.
        at_most: In flight; what is due beyond is not sent.
        within_s: How long answers may take after the last is due.
    """
    answers: list[Answer] = []
    tasks: set[asyncio.Task[None]] = set()
    unsent, began_s = 0, time.perf_counter()
    for arrival in due:
        due_s = began_s + arrival.at_s
        await asyncio.sleep(due_s - time.perf_counter())
        if len(tasks) >= at_most:
            unsent += 1
            continue
        answer = Answer(arrival.task, Stream(due_s))
        answers.append(answer)
        task = asyncio.create_task(ask(target, requests[arrival.task], answer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await _finish(tasks, within_s)
    return Round(answers, began_s, time.perf_counter(), unsent)


async def closed_loop(
    target: Target, requests: Requests, clients: int, seconds: float, share: float, seed: int
) -> Round:
    """So many clients, each of which asks again when it has its answer; what is in flight at the
    end is left, and unfinished."""
    answers: list[Answer] = []

    async def client(index: int) -> None:
        random = np.random.default_rng([seed, index])
        while True:
            task = _drawn_task(random, share)
            answer = Answer(task, Stream(time.perf_counter()))
            answers.append(answer)
            await ask(target, requests[task], answer)
            if not answer.is_whole:
                await asyncio.sleep(_REFUSED_PAUSE_S)

    began_s = time.perf_counter()
    await _for(seconds, [client(index) for index in range(clients)])
    return Round(answers, began_s, time.perf_counter())


async def at_once(target: Target, request: Request, clients: int) -> Round:
    """Everybody in the same moment, once."""
    began_s = time.perf_counter()
    answers = [Answer(request.task, Stream(began_s)) for _ in range(clients)]
    await asyncio.gather(*(ask(target, request, answer) for answer in answers))
    return Round(answers, began_s, time.perf_counter())


def _drawn_task(random: np.random.Generator, share: float) -> Task:
    return "transcription" if random.random() < share else "speech"


async def _for(seconds: float, work: list[Coroutine[Any, Any, None]]) -> None:
    await _finish({asyncio.create_task(each) for each in work}, seconds)


async def _finish(tasks: set[asyncio.Task[None]], within_s: float) -> None:
    """Wait, then cancel; an error of ours is raised."""
    if not tasks:
        return
    pending = set(tasks)
    try:
        done, pending = await asyncio.wait(
            tasks, timeout=within_s, return_when=asyncio.FIRST_EXCEPTION
        )
        for task in done:
            task.result()
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
