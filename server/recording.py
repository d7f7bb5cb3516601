"""An uploaded recording, decoded as it is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from typing import BinaryIO

from engine.types import Samples
from server.audio.decode import DecodeLimits, decode


class Recording:
    """A file on its way to an engine. `is_read` once all of it has been decoded.

    Args:
        file: Seekable; stays open until `blocks` has ended.
        sample_rate: Hz, of the blocks.
        limits: Beyond which it is refused.
        threads: Where it is decoded.
    """

    def __init__(
        self, file: BinaryIO, sample_rate: int, limits: DecodeLimits, threads: Executor
    ) -> None:
        self._blocks = decode(file, sample_rate, limits)
        self._sample_rate = sample_rate
        self._threads = threads
        self._samples = 0
        self._first: Samples | None = None
        self.is_read = False

    @property
    def duration_s(self) -> float:
        """Decoded so far, s."""
        return self._samples / self._sample_rate

    async def open(self) -> None:
        """Find out whether it is one: decode its first block.

        Raises:
            DecodeError: not audio.
        """
        self._first = await self._next()

    async def blocks(self) -> AsyncGenerator[Samples, None]:
        """Float32 mono [T], about half a second each. Once, after `open`.

        Raises:
            DecodeError: broken, or beyond the limits.
        """
        block, self._first = self._first, None
        while block is not None:
            self._samples += len(block)
            yield block
            block = await self._next()
        self.is_read = True

    async def _next(self) -> Samples | None:
        loop = asyncio.get_running_loop()
        step = loop.run_in_executor(self._threads, next, self._blocks, None)
        try:
            return await asyncio.shield(step)
        finally:
            # When this is cancelled, the thread still reads the file until it has the block.
            await asyncio.wait({step})
