"""What is measured of a request, and the line that the log gets of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing

from engine.types import PcmChunk, Segment, TranscriptInfo
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
        figures: dict[str, float] = {"bytes": self._bytes, "audio_s": round(self.audio_s, 3)}
        if self._ttfa_s is not None:
            figures["ttfa_s"] = round(self._ttfa_s, 4)
        if self._samples:
            figures["rtf"] = round(self._compute_s / self.audio_s, 4)
        _log("speech", self._context, self._facts, error, figures)


class TranscriptMeter:
    """Counts one transcription while it runs, and logs it when it ends.

    Args:
        context: Of the request.
        duration_s: Of the recording, as far as it has been read.
        facts: For the log.
    """

    def __init__(
        self, context: RequestContext, duration_s: Callable[[], float], facts: Mapping[str, str]
    ) -> None:
        self._context = context
        self._duration_s = duration_s
        self._facts = facts
        self._segments = 0
        self._first_s: float | None = None

    async def watch(
        self, parts: AsyncGenerator[TranscriptInfo | Segment, None]
    ) -> AsyncGenerator[TranscriptInfo | Segment, None]:
        """The same parts, counted."""
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, Segment):
                    self._segments += 1
                    self._first_s = self._first_s or self._context.elapsed_s()
                yield part

    def ended(self, error: BaseException | None) -> None:
        """Log the request: one line, never its text."""
        duration_s = self._duration_s()
        figures: dict[str, float] = {"segments": self._segments, "audio_s": round(duration_s, 3)}
        if self._first_s is not None:
            figures["first_segment_s"] = round(self._first_s, 4)
        if duration_s:
            figures["rtf"] = round(self._context.elapsed_s() / duration_s, 4)
        _log("transcription", self._context, self._facts, error, figures)


def _log(
    event: str,
    context: RequestContext,
    facts: Mapping[str, str | int],
    error: BaseException | None,
    figures: Mapping[str, float],
) -> None:
    line = {
        "event": event,
        "request_id": context.request_id,
        **facts,
        "outcome": _outcome(error),
        **figures,
        "total_s": round(context.elapsed_s(), 4),
    }
    logger.info("%s", " ".join(f"{key}={quoted(value)}" for key, value in line.items()))


def _outcome(error: BaseException | None) -> str:
    match error:
        case None:
            return "done"
        case ClientGone():
            return "client_left"
        case _:
            return type(error).__name__
