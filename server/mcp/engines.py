"""What the tool `status` tells of each engine. Event loop only."""

from __future__ import annotations

from msgspec import Struct

from engine.protocol import EngineFace
from engine.runtime.pool import EnginePool
from engine.types import EngineState, Residence, Task
from server.catalog import Engines


class EngineReport(Struct, frozen=True, kw_only=True):
    """One engine. Null: not known, or not there."""

    engine: str
    task: Task
    state: EngineState
    residence: Residence | None
    devices: tuple[str, ...] = ()
    used_bytes: int | None = None
    """Of device memory, by its workers."""
    jobs: int
    error: str | None
    clones_voices: bool | None
    is_accurate: bool | None


async def engine_reports(engines: Engines) -> list[EngineReport]:
    """All of them; waits for the steps that run, to measure memory."""
    return [
        *[await _report(engine, "speech") for engine in engines.speech.values()],
        *[await _report(engine, "transcription") for engine in engines.transcription.values()],
    ]


async def _report(engine: EngineFace, task: Task) -> EngineReport:
    workers = await engine.inspect() if isinstance(engine, EnginePool) else ()
    used = [worker.memory.used_bytes for worker in workers if worker.memory]
    status, info = engine.status, engine.info
    return EngineReport(
        engine=engine.name,
        task=task,
        state=status.state,
        residence=status.residence,
        devices=tuple(worker.device for worker in workers),
        used_bytes=sum(used) if used else None,
        jobs=status.jobs,
        error=status.error,
        clones_voices=info.clones_voices if info else None,
        is_accurate=info.is_accurate if info else None,
    )
