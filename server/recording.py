"""An uploaded recording, decoded as it is wanted."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import BinaryIO

from engine.types import Samples
from server.audio.decode import DecodeLimits
from server.decoders import Decoders


class Recording:
    """A file on its way to an engine. `is_read` once all of it has been decoded.

    Args:
        file: Seekable; stays open until `open` has ended.
        sample_rate: Hz, of the blocks.
        limits: Beyond which it is refused.
        decoders: Where it is decoded.
    """

    def __init__(
        self, file: BinaryIO, sample_rate: int, limits: DecodeLimits, decoders: Decoders
    ) -> None:
        self._decoded = decoders.decode(file, sample_rate, limits)
        self._sample_rate = sample_rate
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
            Overloaded, WorkerUnavailable: see `Decoders.decode`.
        """
        self._first, _ = await anext(self._decoded)

    async def aclose(self) -> None:
        """End its decoder, whether or not `blocks` was begun; once nobody reads them."""
        await self._decoded.aclose()

    async def blocks(self) -> AsyncGenerator[Samples, None]:
        """Float32 mono [T], a second each at most. Once, after `open`.

        Raises:
            DecodeError: broken, or beyond the limits.
            WorkerUnavailable: its decoder was lost.
        """
        async with aclosing(self._decoded):
            first, self._first = self._first, None
            assert first is not None, "it was not opened"
            self._samples = len(first)
            yield first
            async for block, _ in self._decoded:
                self._samples += len(block)
                yield block
        self.is_read = True
