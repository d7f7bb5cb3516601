"""A request's turn on an engine, within the limits of its key. Event loop only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

from server.context import RequestContext
from server.queueing import FairQueue, NoTurn, Waiter
from server.quotas import Quotas
from server.settings import Settings

T = TypeVar("T")


class Turns:
    """Stands between the routes and the engines.

    Args:
        settings: How many run and wait, and for how long.
        quotas: What each key may ask for.
    """

    def __init__(self, settings: Settings, quotas: Quotas) -> None:
        self._settings = settings
        self._quotas = quotas
        self._queues: dict[str, FairQueue] = {}
        self._calls: dict[Waiter, asyncio.Event] = {}

    def queue_of(self, engine: str) -> FairQueue:
        """The engine's, by its name in the settings."""
        if (queue := self._queues.get(engine)) is None:
            limits = self._settings.queue
            slots = self._settings.max_jobs_of(engine)
            queue = FairQueue(slots, limits.waiting, limits.key_waiting)
            self._queues[engine] = queue
        return queue

    async def taken(
        self,
        engine: str,
        context: RequestContext,
        parts: AsyncGenerator[T, None],
        characters: int = 0,
    ) -> AsyncGenerator[T, None]:
        """The same parts, from when it is the request's turn; the turn ends with them.

        Args:
            engine: By its name in the settings.
            context: Says whose request it is.
            parts: Not begun; closed in any case.
            characters: Of text that will be spoken.
        Raises:
            ApiError: 429, the key has reached a limit of its own.
            NoTurn: too many wait, or it has waited long enough.
        """
        async with aclosing(parts):
            with self._quotas.in_flight(context.key):
                async with self._turn(self.queue_of(engine), context):
                    self._quotas.spend_chars(context.key, characters)
                    async for part in parts:
                        yield part

    @asynccontextmanager
    async def _turn(self, queue: FairQueue, context: RequestContext) -> AsyncGenerator[None, None]:
        waiter = Waiter(context.key, context.is_batch)
        if not queue.enter(waiter):
            await self._called(queue, waiter)
        context.marks["turn"] = time.perf_counter()
        try:
            yield
        finally:
            self._call_next(queue)

    async def _called(self, queue: FairQueue, waiter: Waiter) -> None:
        """Wait to be called."""
        limits = self._settings.queue
        wait_s = limits.batch_wait_s if waiter.is_batch else limits.wait_s
        call = self._calls[waiter] = asyncio.Event()
        try:
            async with asyncio.timeout(wait_s):
                await call.wait()
        except BaseException as exc:
            if call.is_set():
                # It was called in the moment that it left.
                self._call_next(queue)
            else:
                queue.give_up(waiter)
            if isinstance(exc, TimeoutError):
                message = f"the engine is full; waited {wait_s:g} s for a turn"
                limit = "queue.batch_wait_s" if waiter.is_batch else "queue.wait_s"
                raise NoTurn(message, limit) from None
            raise
        finally:
            del self._calls[waiter]

    def _call_next(self, queue: FairQueue) -> None:
        if (waiter := queue.leave()) is not None:
            self._calls[waiter].set()
