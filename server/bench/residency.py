"""An engine that is sent to sleep and woken: how long it takes, and what its device gets back."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

import msgspec
from msgspec import Struct

from server.bench.host import free_bytes
from server.bench.measure import Address, BenchError, Fields, Figures, call, speak

_IDLE_S = 30.0
_PAUSE_S = 0.02


class _Worker(Struct, frozen=True):
    device: str
    total_bytes: int | None
    free_bytes: int | None
    used_bytes: int | None


class _Engine(Struct, frozen=True):
    can_offload: bool
    jobs: int
    workers: tuple[_Worker, ...]


def device_memory(address: Address, engine: str) -> list[Figures]:
    """Of each worker's device, as the server tells it: in all and free by the driver, and the
    worker's own part. Empty where the device is the host."""
    return [
        {
            "device": worker.device,
            "total_bytes": worker.total_bytes,
            "free_bytes": worker.free_bytes,
            "worker_bytes": worker.used_bytes,
        }
        for worker in _ask(address, engine).workers
        if worker.total_bytes is not None and worker.device != "cpu"
    ]


def sleep_and_wake(
    address: Address, engine: str, action: Literal["offload", "stop"], fields: Fields
) -> Figures | None:
    """Send an engine to sleep twice, and wake it by hand, then by a request.

    Returns:
        Seconds, and the driver's free bytes of each device; None: it cannot sleep like that.
    Raises:
        BenchError: it did not go to sleep, or did not wake.
    """
    if action == "offload" and not _ask(address, engine).can_offload:
        return None
    before = free_bytes()
    asleep_in_s = _post(address, engine, action)
    asleep = free_bytes()
    load_s = _post(address, engine, "load")
    awake = free_bytes()
    _post(address, engine, action)
    first = asyncio.run(speak(address, fields))
    return {
        "load_s": round(load_s, 3),
        "first_call_ttfa_s": round(first.ttfa_s, 3),
        "asleep_in_s": round(asleep_in_s, 3),
        "free_bytes_before": before,
        "free_bytes_asleep": asleep,
        "free_bytes_awake": awake,
    }


def _post(address: Address, engine: str, action: str) -> float:
    """Do it as soon as no job is left; how long that took, s."""
    deadline = time.monotonic() + _IDLE_S
    while _ask(address, engine).jobs and time.monotonic() < deadline:
        # A worker hears a moment later that a client has left.
        time.sleep(_PAUSE_S)
    began = time.perf_counter()
    status, body = call(address, "POST", f"/v1/engines/{engine}/{action}")
    if status != 200:
        raise BenchError(f"{action}: the server answered {status}: {body.decode(errors='replace')}")
    return time.perf_counter() - began


def _ask(address: Address, engine: str) -> _Engine:
    status, body = call(address, "GET", f"/v1/engines/{engine}")
    if status != 200:
        raise BenchError(f"the server has no engine {engine}")
    return msgspec.json.decode(body, type=_Engine)
