"""A call of a tool while it runs: who made it, how far it is, what it gives. Event loop only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing, contextmanager

from msgspec import Struct

from engine.types import PcmChunk, Segment, TranscriptInfo
from server.context import RequestContext
from server.meters import SpeechMeter, TranscriptMeter
from server.speech import SpeechPlan

_REPORT_S = 1.0
"""Seconds of speech between two reports of progress."""


class Call(Struct, frozen=True):
    """Who calls a tool, and who is told how far it is."""

    context: RequestContext
    owner: str | None
    """As `server.auth.owner_of` has it."""
    report: Callable[[float, str], Awaitable[None]]
    """Told seconds of sound done, which grow, and the same in words."""


class Answer(Struct, frozen=True, kw_only=True):
    """What a tool gives."""

    text: str
    note: str = ""
    """To be read beside the text."""
    audio: bytes | None = None
    media_type: str = ""
    """Of the audio."""


@contextmanager
def metered(meter: SpeechMeter | TranscriptMeter) -> Generator[None, None, None]:
    """The request is logged when the block ends, however it does."""
    try:
        yield
    except (Exception, asyncio.CancelledError) as exc:
        meter.ended(exc)
        raise
    meter.ended(None)


async def told_spoken(
    chunks: AsyncGenerator[PcmChunk, None], plan: SpeechPlan, call: Call
) -> AsyncGenerator[PcmChunk, None]:
    """The same chunks; the caller is told of the first, and then about once for each second."""
    spoken_s, told_s = 0.0, -_REPORT_S
    async with aclosing(chunks):
        async for chunk in chunks:
            spoken_s += len(chunk.samples) / plan.engine_rate / plan.tempo
            if spoken_s >= told_s + _REPORT_S:
                told_s = spoken_s
                await call.report(spoken_s, f"{spoken_s:.1f} s spoken")
            yield chunk


async def told_heard(
    parts: AsyncGenerator[TranscriptInfo | Segment, None], call: Call
) -> AsyncGenerator[TranscriptInfo | Segment, None]:
    """The same parts; the caller is told of each segment."""
    async with aclosing(parts):
        async for part in parts:
            if isinstance(part, Segment):
                await call.report(part.end_s, f"{part.end_s:.1f} s transcribed")
            yield part
