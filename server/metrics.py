"""What is measured of a request, and the line that the log gets of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from engine.types import PcmChunk
from server.context import RequestContext
from server.errors import ClientGone
from server.log import quoted

logger = logging.getLogger(__name__)


class SpeechMeter:
    """Counts one speech request while it runs, and logs it when it ends."""

    def __init__(
        self, context: RequestContext, sample_rate: int, facts: Mapping[str, str | int]
    ) -> None:
        self._context = context
        self._sample_rate = sample_rate
        self._facts = facts
        self._ttfa_s: float | None = None
        self._bytes = 0
        self._samples = 0
        self._compute_s = 0.0

    async def watch(self, chunks: AsyncGenerator[PcmChunk, None]) -> AsyncGenerator[PcmChunk, None]:
        """The same chunks, counted."""
        async with aclosing(chunks):
            async for chunk in chunks:
                self._samples += len(chunk.samples)
                self._compute_s += chunk.compute_s
                yield chunk

    @property
    def audio_s(self) -> float:
        """Speech made so far, as the engine speaks it, s."""
        return self._samples / self._sample_rate

    @property
    def has_sent(self) -> bool:
        return self._ttfa_s is not None

    def sent(self, data: bytes) -> None:
        if self._ttfa_s is None and data:
            self._ttfa_s = self._context.elapsed_s()
        self._bytes += len(data)

    def ended(self, error: BaseException | None) -> None:
        """Log the request: one line, never its text."""
        line: dict[str, str | int | float] = {
            "event": "speech",
            "request_id": self._context.request_id,
            **self._facts,
            "outcome": _outcome(error),
            "bytes": self._bytes,
            "audio_s": round(self.audio_s, 3),
            "total_s": round(self._context.elapsed_s(), 4),
        }
        if self._ttfa_s is not None:
            line["ttfa_s"] = round(self._ttfa_s, 4)
        if self._samples:
            line["rtf"] = round(self._compute_s / self.audio_s, 4)
        logger.info("%s", " ".join(f"{key}={quoted(value)}" for key, value in line.items()))


def _outcome(error: BaseException | None) -> str:
    match error:
        case None:
            return "done"
        case ClientGone():
            return "client_left"
        case _:
            return type(error).__name__
