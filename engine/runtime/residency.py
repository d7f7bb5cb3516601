"""Where a worker's weights are, where they should be, and what to do about it. Pure: no I/O.

```
loading -> resident <-> offloaded
   ^          |             |
stopped <-----+-------------+
```
A goal may change while a move is under way: the next move begins where that one ends. So a request
that comes while an engine leaves its device brings it back at once, and many of them bring it back
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from engine.types import Residence

Goal: TypeAlias = Literal["resident", "offloaded", "stopped"]
Stance: TypeAlias = Literal["working", "idle", "asleep", "leaving"]
Move: TypeAlias = Literal["load", "offload", "restore", "stop"]

_ENDS: dict[Move, Residence] = {
    "load": "resident",
    "offload": "offloaded",
    "restore": "resident",
    "stop": "stopped",
}


class Residency:
    """One worker's. Times are seconds of any one clock.

    Args:
        idle_offload_s: Idle time after which to leave the device; 0: never.
        idle_stop_s: Idle time after which to end; 0: never.
        now: When it begins to load.

    Attributes:
        can_offload: Whether the plug-in can leave its device; known once it has loaded.
        goal: Where the weights should be.
        leases: Requests that need the worker where it is, or wait for it.
        idle_since: When the last lease ended, or the worker became resident.
    """

    def __init__(self, idle_offload_s: float, idle_stop_s: float, now: float) -> None:
        self._idle_offload_s = idle_offload_s
        self._idle_stop_s = idle_stop_s
        self._place: Residence = "stopped"
        self._move: Move | None = None
        self.can_offload = False
        self.goal: Goal = "resident"
        self.leases = 0
        self.idle_since = now

    @property
    def residence(self) -> Residence:
        """For people: a worker that wants to be resident and is not is "loading"."""
        if self._place != "resident" and self.goal == "resident":
            return "loading"
        return self._place

    @property
    def is_awake(self) -> bool:
        """Whether it can take a job now."""
        return self._place == "resident" and self._move is None

    def holding(self, held_bytes: int) -> Holding:
        """How it stands to a device's budget."""
        return Holding(bytes=held_bytes, idle_since=self.idle_since, stance=self._stance)

    def lease(self) -> None:
        """Keep it from going to sleep until `release`."""
        self.leases += 1

    def release(self, now: float) -> None:
        assert self.leases > 0
        self.leases -= 1
        self.idle_since = now

    def want(self, goal: Goal) -> None:
        """Set the goal; only one without a lease is sent to sleep."""
        assert goal == "resident" or not self.leases
        self.goal = goal

    def doze(self, now: float) -> None:
        """Let the idle clock set the goal."""
        if (due_at := self._offload_at()) is not None and now >= due_at:
            self.goal = "offloaded"
        if (due_at := self._stop_at()) is not None and now >= due_at:
            self.goal = "stopped"

    def doze_at(self) -> float | None:
        """When `doze` will change the goal if nothing else happens; None: never."""
        return min(
            (at for at in (self._offload_at(), self._stop_at()) if at is not None), default=None
        )

    def begin(self) -> Move | None:
        """The next move towards the goal, which has begun now; None: there is nothing to do."""
        assert self._move is None
        self._move = self._next()
        return self._move

    def done(self, now: float) -> None:
        """The move has reached its end."""
        assert self._move is not None
        self._place, self._move = _ENDS[self._move], None
        if self._place == "resident":
            self.idle_since = now
            if self.goal == "offloaded" and not self.can_offload:
                self.goal = "resident"

    def died(self) -> None:
        """The process has gone. One that slept stays down until it is needed."""
        slept = self.goal != "resident"
        self._place, self._move = "stopped", None
        self.goal = "stopped" if slept else "resident"

    def _next(self) -> Move | None:
        match self._place, self.goal:
            case "stopped", "resident":
                return "load"
            case "offloaded", "resident":
                return "restore"
            case "resident", "offloaded" if self.can_offload and not self.leases:
                return "offload"
            case (("resident" | "offloaded"), "stopped") if not self.leases:
                return "stop"
            case _:
                return None

    @property
    def _stance(self) -> Stance:
        if self.goal == "resident":
            return "idle" if self.is_awake and not self.leases else "working"
        is_leaving = self._move is not None or self._place == "resident"
        return "leaving" if is_leaving else "asleep"

    def _offload_at(self) -> float | None:
        is_due = self.can_offload and self.is_awake and self.goal == "resident"
        if not (is_due and self._idle_offload_s) or self.leases:
            return None
        return self.idle_since + self._idle_offload_s

    def _stop_at(self) -> float | None:
        is_up = self._place in ("resident", "offloaded") and self._move is None
        if not (is_up and self._idle_stop_s) or self.leases or self.goal == "stopped":
            return None
        return self.idle_since + self._idle_stop_s


class Holding(Struct, frozen=True, kw_only=True):
    """What a worker has of a device's memory."""

    bytes: int
    idle_since: float
    stance: Stance
    """"asleep" holds little, and can still end; "leaving" will have freed its bytes in a moment."""


def excess_bytes(holdings: Sequence[Holding], wanted_bytes: int, budget_bytes: int) -> int:
    """By how much a device's budget is exceeded once `wanted_bytes` have come; below 0 if not."""
    return sum(holding.bytes for holding in holdings) + wanted_bytes - budget_bytes


def evictions(holdings: Sequence[Holding], excess: int) -> tuple[int, ...]:
    """Who has to leave a device to free `excess` bytes: the longest idle first, sleepers last.

    Returns:
        Indexes of holdings: no more than it takes, or all that can go if they do not suffice.
    """
    excess -= sum(holding.bytes for holding in holdings if holding.stance == "leaving")
    able = [
        (holding.stance == "asleep", holding.idle_since, index)
        for index, holding in enumerate(holdings)
        if holding.stance in ("idle", "asleep") and holding.bytes
    ]
    leaving: list[int] = []
    for _, _, index in sorted(able):
        if excess <= 0:
            break
        leaving.append(index)
        excess -= holdings[index].bytes
    return tuple(leaving)
