"""What the engines of one server share: their devices' memory, and news of each other."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from engine.runtime.residency import Holding, evictions, excess_bytes
from engine.types import Device

logger = logging.getLogger(__name__)


class Signal:
    """Wakes all that wait for it, each time that it is given. Event loop only."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def give(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        await self._event.wait()


class Tenant(Protocol):
    """A worker on a device."""

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> Device: ...

    @property
    def holding(self) -> Holding: ...

    def leave(self) -> None:
        """Begin to make room."""
        ...


class Devices:
    """Workers by device, kept within a budget. Event loop only.

    Args:
        budget_bytes: Of each device; None: all there is.

    Attributes:
        news: Given whenever a worker's state has changed.
    """

    def __init__(self, budget_bytes: int | None = None) -> None:
        self._budget_bytes = budget_bytes
        self._tenants: list[Tenant] = []
        self._doors: defaultdict[Device, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.news = Signal()

    def add(self, tenant: Tenant) -> None:
        self._tenants.append(tenant)

    @asynccontextmanager
    async def room(self, tenant: Tenant, wanted_bytes: int) -> AsyncIterator[None]:
        """Make room on the tenant's device, and keep it for the tenant while it moves in.

        Waits while those that are in the way work. What is larger than the budget is let in once it
        is alone.

        Args:
            tenant: Who moves in.
            wanted_bytes: That it will hold; 0 while nobody knows.
        """
        if self._budget_bytes is None or tenant.device == "cpu":
            yield
            return
        async with self._doors[tenant.device]:
            while not self._has_room(tenant, wanted_bytes):
                await self.news.wait()
            yield
        # What it takes may be known only now.
        self._has_room(tenant, 0)

    def _has_room(self, tenant: Tenant, wanted_bytes: int) -> bool:
        """Whether there is room; if not, sends away who can go."""
        assert self._budget_bytes is not None
        beside = [
            other
            for other in self._tenants
            if other is not tenant and other.device == tenant.device and other.holding.bytes
        ]
        holdings = [other.holding for other in beside]
        own_bytes = max(wanted_bytes, tenant.holding.bytes)
        excess = excess_bytes(holdings, own_bytes, self._budget_bytes)
        for index in evictions(holdings, excess):
            logger.info("event=evicted engine=%s for=%s", beside[index].name, tenant.name)
            beside[index].leave()
        return excess <= 0 or not beside
