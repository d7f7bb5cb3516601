"""The worker's side of residency: its engine leaves the device, comes back, is measured."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from engine.errors import LoadFailed, to_wire
from engine.protocol import Engine, Residency
from engine.runtime.tally import Tally
from engine.runtime.wire import Broken, Event, Measure, Offload, Placed, Placing, Restore
from engine.types import Device, DeviceMemory

logger = logging.getLogger(__name__)

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Placement:
    """Moves one loaded engine. Worker's loop only.

    Args:
        engine: Loaded.
        device: As the settings name it.
        send: Puts an event on the socket.
        tally: Of the loop around the engine.
    """

    def __init__(
        self, engine: Engine, device: Device, send: Callable[[Event], None], tally: Tally
    ) -> None:
        self._engine = engine if isinstance(engine, Residency) else None
        self._device = device
        self._send = send
        self._tally = tally

    @property
    def can_offload(self) -> bool:
        return self._engine is not None

    def memory(self) -> DeviceMemory | None:
        """Of the engine's device; None if nobody can tell."""
        measured = self._engine.memory() if self._engine is not None else None
        if measured is None and (self._device == "cpu" or self._engine is not None):
            return host_memory()
        return measured

    def apply(self, command: Placing) -> None:
        """Do it and say so.

        Raises:
            LoadFailed: the engine failed half-way, which nothing but a new process mends. It has
                been sent.
        """
        began = time.monotonic()
        try:
            match command:
                case Offload():
                    self._movable.offload()
                case Restore():
                    self._movable.restore()
                case Measure():
                    pass
            memory = self.memory()
        except Exception as exc:
            verb = type(command).__name__.lower()
            logger.exception("event=placement_failed verb=%s", verb)
            failure = LoadFailed(f"the engine could not {verb}: {exc!r}")
            self._send(Broken(to_wire(failure)))
            raise failure from exc
        self._send(Placed(memory, self._tally.stages))
        if not isinstance(command, Measure):
            used_bytes = memory.used_bytes if memory else 0
            logger.info(
                "event=%s seconds=%.3f used_bytes=%d",
                type(command).__name__.lower(),
                time.monotonic() - began,
                used_bytes,
            )

    @property
    def _movable(self) -> Residency:
        assert self._engine is not None, "the server moves only what said that it can be moved"
        return self._engine


def host_memory() -> DeviceMemory | None:
    """What this process holds of the host's memory; None where Linux does not tell."""
    if sys.platform != "linux":
        return None
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return DeviceMemory(
        device="cpu",
        used_bytes=resident_pages * _PAGE_BYTES,
        total_bytes=os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES,
        free_bytes=os.sysconf("SC_AVPHYS_PAGES") * _PAGE_BYTES,
    )
