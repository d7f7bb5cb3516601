"""/api/gpu: what the engines take of the GPUs, as measured, and how to have it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from litestar import post, route
from litestar.di import NamedDependency

from engine.errors import EngineBusy, InvalidRequest
from engine.runtime.pool import EnginePool
from engine.types import WorkerStatus
from server.catalog import Catalog
from server.errors import ApiError
from server.routes import GET
from server.routes.engines import Pools
from server.schemas.article import Emotions, GpuDevice, GpuOffload, GpuStatus

_GB = 1 << 30
_AWAKE = ("resident", "loading")

Workers = Mapping[str, Sequence[WorkerStatus]]
"""By the engine's name."""


@route("/gpu/status", http_method=GET)
async def get_gpu_status(
    catalog: NamedDependency[Catalog], pools: NamedDependency[Pools]
) -> GpuStatus:
    """Waits for the steps that run: memory is measured between them."""
    status = catalog.preferred_speaker().status
    devices = _devices(await _inspected(_present(pools)))
    gpus = [device for device in devices if device.device != "cpu"]
    used = _sum(device.used_bytes for device in gpus)
    total = _sum(device.total_bytes for device in gpus)
    return GpuStatus(
        loaded=status.state == "ready" and status.residence in (None, "resident"),
        gpu_memory_used=None if used is None else round(used / _GB, 2),
        gpu_memory_total=None if total is None else round(total / _GB, 2),
        gpu_memory_used_bytes=used,
        gpu_memory_total_bytes=total,
        idle_time=_least(device.idle_time for device in devices),
        devices=devices,
    )


@post("/gpu/offload", status_code=200)
async def offload_gpu(pools: NamedDependency[Pools]) -> GpuOffload:
    """Send every engine off its GPU; answers when it has gone.

    Raises:
        ApiError: 400, one has jobs in flight.
    """
    there = {
        name: pool
        for name, pool in _present(pools).items()
        if any(each.device != "cpu" and each.residence in _AWAKE for each in pool.workers)
    }
    # Before any has gone: a part of the memory is not what was asked for.
    for pool in there.values():
        if pool.status.jobs:
            raise _busy(f"{pool.name} has jobs in flight: it cannot leave the GPU now")
    before = _used_bytes(await _inspected(there))
    for pool in there.values():
        await _send_away(pool)
    after = _used_bytes(await _inspected(there))
    return GpuOffload(
        message=f"off the GPU: {', '.join(there)}" if there else "no engine is on a GPU",
        offloaded=tuple(there),
        freed_bytes=None if before is None or after is None else before - after,
    )


@route("/emotions", http_method=GET)
async def list_emotions() -> Emotions:
    """None: no engine takes an emotion. Speech has that of the recording that it is cloned from."""
    return Emotions(())


async def _send_away(pool: EnginePool) -> None:
    try:
        try:
            await pool.sleep("offloaded")
        except InvalidRequest:
            # It has no other place for its weights; to end the worker frees the GPU as well.
            await pool.sleep("stopped")
    except EngineBusy as exc:
        raise _busy(str(exc)) from exc


def _busy(message: str) -> ApiError:
    # Not 409: clients would try that again.
    return ApiError(400, message, code="engine_busy")


def _present(pools: Pools) -> dict[str, EnginePool]:
    """Without the engines that this machine has no model for."""
    return {name: pool for name, pool in pools.items() if pool.status.state != "absent"}


async def _inspected(pools: Mapping[str, EnginePool]) -> Workers:
    return {name: await pool.inspect() for name, pool in pools.items()}


def _devices(workers: Workers) -> tuple[GpuDevice, ...]:
    """By device, what `workers` says by engine."""
    names = dict.fromkeys(each.device for several in workers.values() for each in several)
    return tuple(
        _device(
            device,
            [
                (name, each)
                for name, several in workers.items()
                for each in several
                if each.device == device
            ],
        )
        for device in names
    )


def _device(device: str, tenants: Sequence[tuple[str, WorkerStatus]]) -> GpuDevice:
    memories = [each.memory for _, each in tenants if each.memory is not None]
    return GpuDevice(
        device=device,
        engines=tuple(dict.fromkeys(name for name, _ in tenants)),
        loaded=tuple(dict.fromkeys(n for n, each in tenants if each.residence == "resident")),
        used_bytes=_sum(_used_by(each) for _, each in tenants),
        free_bytes=min((memory.free_bytes for memory in memories), default=None),
        total_bytes=max((memory.total_bytes for memory in memories), default=None),
        idle_time=_least(each.idle_s for _, each in tenants),
    )


def _used_bytes(workers: Workers) -> int | None:
    """Of all GPUs, by these workers."""
    every = (each for several in workers.values() for each in several)
    return _sum(_used_by(each) for each in every if each.device != "cpu")


def _used_by(worker: WorkerStatus) -> int | None:
    if worker.memory is None:
        return 0 if worker.residence == "stopped" else None
    return worker.memory.used_bytes


def _sum(figures: Iterable[int | None]) -> int | None:
    """Of figures that are all known."""
    total = 0
    for figure in figures:
        if figure is None:
            return None
        total += figure
    return total


def _least(times: Iterable[float | None]) -> float | None:
    """None if one is: somebody works."""
    every = list(times)
    known = [time for time in every if time is not None]
    return round(min(known), 3) if known and len(known) == len(every) else None
