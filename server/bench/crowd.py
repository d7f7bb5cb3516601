"""Many clients at once, for a stretch of time."""

from __future__ import annotations

import asyncio
import time

from msgspec import Struct

from server.bench.measure import PCM_BYTES_PER_S, Address, Fields, Stream, hear

_REFUSED_PAUSE_S = 0.2


class Load(Struct, frozen=True, kw_only=True):
    """How clients ask."""

    clients: int
    stagger_s: float
    """From one client's first request to the next one's: those that begin within one instant stay
    in step, and every measure is of a burst."""
    plays: bool
    """Each plays its clip to the end before it asks again, as people do; else it asks as soon as
    the clip is there."""
    warm_up_s: float
    """After the last client has begun."""
    measured_s: float


class Crowd(Struct, frozen=True):
    """What a crowd of clients heard in a stretch of time."""

    streams: list[Stream]
    """Those that were heard in it, whole or not."""
    began_s: float
    ended_s: float
    refused: int
    unheard: int
    """Clients that waited for their first audio at the end: their TTFA is not among the others."""

    @property
    def audio_s_per_s(self) -> float:
        inside = sum(
            size
            for stream in self.streams
            for arrived_s, size in stream.arrivals
            if self.began_s <= arrived_s < self.ended_s
        )
        return inside / PCM_BYTES_PER_S / (self.ended_s - self.began_s)


async def crowd(address: Address, fields: Fields, load: Load) -> Crowd:
    """Let clients ask, and listen to all of them.

    Raises:
        BenchError: a stream broke off.
    """
    streams: list[Stream] = []
    refused_at: list[float] = []

    async def client(first_s: float) -> None:
        await asyncio.sleep(first_s)
        while True:
            stream = Stream(time.perf_counter())
            streams.append(stream)
            if not await hear(address, fields, stream):
                refused_at.append(time.perf_counter())
                await asyncio.sleep(_REFUSED_PAUSE_S)
            elif load.plays:
                await asyncio.sleep(stream.played_until_s - time.perf_counter())

    until_s = (load.clients - 1) * load.stagger_s + load.warm_up_s
    began_s = time.perf_counter() + until_s
    tasks = [asyncio.create_task(client(index * load.stagger_s)) for index in range(load.clients)]
    try:
        done, _ = await asyncio.wait(
            tasks, timeout=until_s + load.measured_s, return_when=asyncio.FIRST_EXCEPTION
        )
        ended_s = time.perf_counter()
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    heard = [each for each in streams if each.arrivals and each.arrivals[-1][0] >= began_s]
    unheard = sum(not stream.arrivals for stream in streams) - len(refused_at)
    return Crowd(heard, began_s, ended_s, sum(at >= began_s for at in refused_at), unheard)
