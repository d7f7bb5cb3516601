"""Settings of the engine room: one frozen struct a plug-in, and one for a pool of workers."""

from __future__ import annotations

from msgspec import Struct


class EspeakOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The embedded voice."""

    words_per_minute: int = 175
    """Pace at speed 1.0; 80 to 450."""
    chunk_ms: int = 40
    """Audio handed on at a time, in milliseconds; 10 to 1000."""

    def __post_init__(self) -> None:
        if not 80 <= self.words_per_minute <= 450:
            raise ValueError("words_per_minute must be within 80 and 450")
        if not 10 <= self.chunk_ms <= 1000:
            raise ValueError("chunk_ms must be within 10 and 1000")


class WorkerConfig(Struct, frozen=True, kw_only=True):
    """What one worker process is told on its command line."""

    engine: str
    """A name in `engine.registry`."""
    device: str = "cpu"
    options: dict[str, str | int | float | bool | None] = {}
    """Fields of the plug-in's options struct."""


class PoolConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the workers of one engine are run."""

    restart_delay_s: float = 0.1
    """Pause before the first restart of a dead worker; doubles with each further death."""
    restart_delay_max_s: float = 30.0
    stable_after_s: float = 30.0
    """A worker that lived this long starts the doubling afresh."""
    wait_s: float = 10.0
    """How long a request waits for a worker that is starting; then it fails as unavailable."""
    buffer_s: float = 4.0
    """Audio a worker may be ahead of a client that reads slowly."""
