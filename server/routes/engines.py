"""Engines: /v1/engines, what each takes of its device and how to send it to sleep; /metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from litestar import Response, post, route
from litestar.di import NamedDependency
from litestar.params import FromPath

from engine.errors import EngineBusy
from engine.runtime.pool import EnginePool
from engine.runtime.residency import Goal
from engine.types import WorkerStatus
from server.errors import ApiError
from server.metrics import METRICS_MEDIA_TYPE, engine_metrics, queue_metrics, server_metrics
from server.recents import Ledger
from server.routes import GET
from server.schemas.engines import EngineEntry, EngineList, EngineWorker
from server.turns import Turns

Pools: TypeAlias = Mapping[str, EnginePool]
"""The engines that have workers, by name."""

_PATH = "/v1/engines"


@route(_PATH, http_method=GET)
async def list_engines(pools: NamedDependency[Pools]) -> EngineList:
    return EngineList(tuple([await _shown(pool) for pool in pools.values()]))


@route(_PATH + "/{name:str}", http_method=GET)
async def get_engine(name: FromPath[str], pools: NamedDependency[Pools]) -> EngineEntry:
    return await _shown(_named(name, pools))


@post(_PATH + "/{name:str}/load", status_code=200)
async def load_engine(name: FromPath[str], pools: NamedDependency[Pools]) -> EngineEntry:
    """Bring it to its device; answers when it is there."""
    pool = _named(name, pools)
    await pool.wake()
    return await _shown(pool)


@post(_PATH + "/{name:str}/offload", status_code=200)
async def offload_engine(name: FromPath[str], pools: NamedDependency[Pools]) -> EngineEntry:
    """Take its weights to the host's memory; answers when the device is free of them."""
    return await _put_to_sleep(_named(name, pools), "offloaded")


@post(_PATH + "/{name:str}/stop", status_code=200)
async def stop_engine(name: FromPath[str], pools: NamedDependency[Pools]) -> EngineEntry:
    """End its workers; answers when they have ended. The next request starts them again."""
    return await _put_to_sleep(_named(name, pools), "stopped")


@route("/metrics", http_method=GET)
async def get_metrics(
    pools: NamedDependency[Pools],
    ledger: NamedDependency[Ledger],
    turns: NamedDependency[Turns],
) -> Response[str]:
    """For Prometheus."""
    workers = {name: await pool.inspect() for name, pool in pools.items()}
    queues = {name: turns.queue_of(name) for name in pools}
    text = engine_metrics(workers) + queue_metrics(queues) + ledger.totals.text() + server_metrics()
    return Response(text, media_type=METRICS_MEDIA_TYPE)


async def _put_to_sleep(pool: EnginePool, goal: Goal) -> EngineEntry:
    try:
        await pool.sleep(goal)
    except EngineBusy as exc:
        # Not 409: the SDK would try that again.
        raise ApiError(400, str(exc), code="engine_busy") from exc
    return await _shown(pool)


def _named(name: str, pools: Pools) -> EnginePool:
    if (pool := pools.get(name)) is None:
        message = f"The engine {name[:200]!r} does not exist; there are: {', '.join(pools)}."
        raise ApiError(404, message, code="engine_not_found")
    return pool


async def _shown(pool: EnginePool) -> EngineEntry:
    workers = await pool.inspect()
    status = pool.status
    return EngineEntry(
        id=pool.name,
        status=status.state,
        state=status.residence,
        can_offload=pool.can_offload,
        jobs=status.jobs,
        workers=tuple(map(_worker, workers)),
        error=status.error,
    )


def _worker(status: WorkerStatus) -> EngineWorker:
    memory = status.memory
    nothing = 0 if status.residence == "stopped" else None
    return EngineWorker(
        state=status.residence,
        device=status.device,
        used_bytes=memory.used_bytes if memory else nothing,
        total_bytes=memory.total_bytes if memory else None,
        free_bytes=memory.free_bytes if memory else None,
        idle_s=None if status.idle_s is None else round(status.idle_s, 3),
        jobs=status.jobs,
        restarts=status.restarts,
        wakes=status.wakes,
        wake_s=round(status.wake_s, 3),
        error=status.error,
    )
