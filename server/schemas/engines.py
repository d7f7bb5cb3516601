"""Engines and their workers: where each is, and what it takes of its device."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from engine.types import Device, Residence


class EngineWorker(Struct, frozen=True, kw_only=True):
    """One worker process, or the place of one."""

    state: Residence
    """"loading", "resident", "offloaded" to the host's memory, or "stopped": there is no process.
    A request wakes the last two, unless the engine is absent."""
    device: Device
    used_bytes: int | None
    """Of the device's memory, by this worker, measured now. None: nobody can tell."""
    total_bytes: int | None
    free_bytes: int | None
    idle_s: float | None
    """Since its last job ended; null while it has one."""
    jobs: int
    restarts: int
    wakes: int
    wake_s: float
    """That its wakes took together."""
    error: str | None


class EngineEntry(Struct, frozen=True, kw_only=True):
    """One engine."""

    id: str
    object: Literal["engine"] = "engine"
    status: str
    """As at /ready: "ready" takes requests, though it may have to wake first."""
    state: Residence | None
    """Of its most wakeful worker."""
    can_offload: bool
    """Whether it can leave its device and stay alive; false until it has loaded once."""
    jobs: int
    workers: tuple[EngineWorker, ...]
    error: str | None


class EngineList(Struct, frozen=True):
    data: tuple[EngineEntry, ...]
    object: Literal["list"] = "list"
