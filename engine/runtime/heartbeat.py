"""Whether a worker gets on: its pulse is taken in its process, the watchdog looks on in the server.

The worker numbers what its loop begins. A thread beside the loop sends the number of what the loop
is inside, again and again. The server counts for how long nothing changes; a worker that sends
nothing at all does not change either. Only the server counts, by looks at a monotonic clock, and
however long ago the last look was, one adds no more than two intervals: that the machine slept
meanwhile, or the server was held up, is not the worker's fault.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from engine.config import PoolConfig
from engine.runtime.wire import Beat, Doing
from engine.types import Samples

_BEATS_IN_A_HANG = 5
_BEAT_S = 1.0


def beat_interval_s(config: PoolConfig) -> float:
    """Between two beats, and between two looks at them, s."""
    return min(_BEAT_S, (config.hang_s or math.inf) / _BEATS_IN_A_HANG)


class Pulse:
    """What a worker's loop is inside. The loop's thread writes it, any thread reads `beat`.

    Attributes:
        beat: To be sent; replaced as a whole.
        number: Of what the loop began last.
        pace: Of a usual turn of the loop: "long" where that may take minutes.
    """

    def __init__(self) -> None:
        self.beat = Beat(0, "long")
        self.pace: Doing = "step"
        self.number = 0
        self._flight: int | None = None

    @contextmanager
    def inside(self, doing: Doing) -> Iterator[None]:
        """The loop begins something, and ends it."""
        self.number += 1
        self._mark(doing)
        yield
        self.idle()

    def idle(self) -> None:
        """The loop waits for work."""
        self._mark("nothing")

    def advance(self) -> None:
        """The loop has got on inside what it does."""
        self.number += 1
        self._mark(self.beat.doing)

    def flies(self, number: int | None) -> None:
        """The device is still at what began as `number`: until that lands, nothing gets on."""
        self._flight = number
        self._mark(self.beat.doing)

    def waits(self, blocks: Iterator[Samples]) -> Iterator[Samples]:
        """The same blocks; to wait for one is not to work."""
        while True:
            self.idle()
            block = next(blocks, None)
            self.number += 1
            self._mark(self.pace)
            if block is None:
                return
            yield block

    def _mark(self, doing: Doing) -> None:
        if self._flight is None:
            self.beat = Beat(self.number, doing)
        else:
            self.beat = Beat(self._flight, self.pace if doing == "nothing" else doing)


class Watchdog:
    """Tells a worker that works from one that hangs. Pure.

    Args:
        config: `hang_s` and `hang_load_s`.
        now: Seconds of a monotonic clock.
    """

    def __init__(self, config: PoolConfig, now: float) -> None:
        self._hang_s = config.hang_s or math.inf
        self._hang_load_s = config.hang_load_s or math.inf
        self._look_max_s = 2 * beat_interval_s(config)
        self._looked_at = now
        self._beat = Pulse().beat
        self.stalled_s = 0.0
        """For how long it has not got on."""

    def saw(self, beat: Beat) -> None:
        """A beat has come."""
        if beat.doing == "nothing" or beat.number != self._beat.number:
            self.stalled_s = 0.0
        self._beat = beat

    def look(self, now: float) -> None:
        """Time has passed."""
        self.stalled_s += min(now - self._looked_at, self._look_max_s)
        self._looked_at = now

    @property
    def is_suspect(self) -> bool:
        """Half of what it may take has gone by."""
        return self.stalled_s >= self._limit_s / 2

    @property
    def is_hung(self) -> bool:
        return self.stalled_s >= self._limit_s

    @property
    def _limit_s(self) -> float:
        return self._hang_load_s if self._beat.doing == "long" else self._hang_s
