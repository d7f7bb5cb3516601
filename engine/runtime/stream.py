"""The server's end of one job: its events as they arrive, and leave to send. Event loop only."""

from __future__ import annotations

import asyncio

from engine.errors import from_wire
from engine.runtime.wire import Failed, Finished, JobEvent


class JobStream:
    """Events of one job, in order.

    Attributes:
        job_id: Unique in the worker's client.
        is_over: The worker is done with the job; nothing follows.
    """

    def __init__(self, job_id: int) -> None:
        self.job_id = job_id
        self.is_over = False
        self._queue: asyncio.Queue[JobEvent | Exception] = asyncio.Queue()

    def put(self, event: JobEvent | Exception) -> None:
        """Add an event, or the reason why there will be no more."""
        self._queue.put_nowait(event)

    async def take(self) -> list[JobEvent]:
        """Wait for one event; give it and what else is there.

        Raises:
            EngineError: the job failed; events before that were given first.
        """
        events: list[JobEvent] = []
        item = await self._queue.get()
        while True:
            if isinstance(item, Exception | Failed):
                if events:
                    self._requeue(item)
                    return events
                self.is_over = isinstance(item, Failed)
                raise item if isinstance(item, Exception) else from_wire(item.error)
            events.append(item)
            self.is_over = isinstance(item, Finished)
            if self.is_over or self._queue.empty():
                return events
            item = self._queue.get_nowait()

    def _requeue(self, item: JobEvent | Exception) -> None:
        """Nothing can follow it: it comes next."""
        self._queue = asyncio.Queue()
        self._queue.put_nowait(item)


class Budget:
    """Leave to send a number of samples, spent and renewed."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._renewed = asyncio.Event()

    def add(self, samples: int) -> None:
        self._samples += samples
        self._renewed.set()

    async def take(self, samples: int) -> None:
        """Spend; waits while there is nothing left. The last taker may overdraw."""
        while self._samples <= 0:
            self._renewed.clear()
            await self._renewed.wait()
        self._samples -= samples
