"""Who runs on an engine, who waits, and who is next. Pure: no clock, no event loop."""

from __future__ import annotations

from collections import OrderedDict, deque

from msgspec import Struct

from engine.errors import Overloaded

_RETRY_S = 1.0


class NoTurn(Overloaded):
    """A request gets no turn.

    Attributes:
        limit: The setting that it ran into.
    """

    def __init__(self, message: str, limit: str) -> None:
        super().__init__(message, _RETRY_S)
        self.limit = limit


class Waiter(Struct, frozen=True, eq=False):
    """One request."""

    key: str | None
    """The name of its API key; None: keys are off."""
    is_batch: bool


class FairQueue:
    """The requests of one engine: so many run, the others wait, a bounded number of them.

    Whoever waits interactively comes before batch work; in either, keys take turns, and the
    requests of one key come in their order. While nobody waits, none of this is in the way.

    Args:
        slots: Requests that run at once.
        waiting: That wait, at most.
        key_waiting: Of one key.
    """

    def __init__(self, slots: int, waiting: int, key_waiting: int) -> None:
        self._slots = slots
        self._max_waiting = waiting
        self._max_key_waiting = key_waiting
        self._running = 0
        # A key that has had its turn goes to the end; one that waits for nothing is not there.
        self._interactive: OrderedDict[str | None, deque[Waiter]] = OrderedDict()
        self._batch: OrderedDict[str | None, deque[Waiter]] = OrderedDict()

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return self.waiting_in(is_batch=False) + self.waiting_in(is_batch=True)

    def waiting_in(self, *, is_batch: bool) -> int:
        """Of those that wait."""
        return sum(map(len, (self._batch if is_batch else self._interactive).values()))

    def enter(self, waiter: Waiter) -> bool:
        """Whether it runs at once; otherwise it waits until `leave` gives it.

        Raises:
            NoTurn: enough wait already.
        """
        if self._running < self._slots:
            self._running += 1
            return True
        if self.waiting >= self._max_waiting:
            raise NoTurn("the engine is full, and so is its queue", "queue.waiting")
        if waiter.key is not None and self._waiting_of(waiter.key) >= self._max_key_waiting:
            raise NoTurn(
                "too many requests of this API key wait for the engine", "queue.key_waiting"
            )
        self._line(waiter).setdefault(waiter.key, deque()).append(waiter)
        return False

    def leave(self) -> Waiter | None:
        """One that ran has ended; the one that runs instead."""
        line = self._interactive or self._batch
        if not line:
            self._running -= 1
            return None
        key, waiters = line.popitem(last=False)
        waiter = waiters.popleft()
        if waiters:
            line[key] = waiters
        return waiter

    def give_up(self, waiter: Waiter) -> None:
        """It waits no longer."""
        line = self._line(waiter)
        waiters = line[waiter.key]
        waiters.remove(waiter)
        if not waiters:
            del line[waiter.key]

    def _line(self, waiter: Waiter) -> OrderedDict[str | None, deque[Waiter]]:
        return self._batch if waiter.is_batch else self._interactive

    def _waiting_of(self, key: str) -> int:
        return sum(len(line.get(key, ())) for line in (self._interactive, self._batch))
