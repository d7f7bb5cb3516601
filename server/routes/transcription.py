"""POST /v1/audio/transcriptions and /v1/audio/translations: sound to text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from litestar import Request, post
from litestar.di import NamedDependency
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp

from engine.types import EngineInfo, Segment, TranscriptInfo
from server.auth import owner_of
from server.catalog import Catalog, engine_headers
from server.context import client_facts, context_of
from server.decoders import Decoders
from server.forms import read_form, sound_of
from server.meters import TranscriptMeter
from server.recents import Asked, Ledger
from server.recording import Recording
from server.schemas.transcription import TranscriptionRequest
from server.settings import Settings
from server.streaming import SSE_MEDIA_TYPE, StreamedBody, unless_gone
from server.transcription import (
    Task,
    TranscriptEvents,
    collect,
    engine_options,
    error_event,
    parse_request,
    whole,
)
from server.turns import Turns

Parts = AsyncGenerator[TranscriptInfo | Segment, None]


@post("/v1/audio/transcriptions", status_code=200)
async def create_transcription(
    request: Request[Any, Any, Any],
    catalog: NamedDependency[Catalog],
    settings: NamedDependency[Settings],
    decoders: NamedDependency[Decoders],
    ledger: NamedDependency[Ledger],
    turns: NamedDependency[Turns],
) -> ASGIApp:
    """Write down what is said, in its own language."""
    return await _answer(request, catalog, settings, decoders, ledger, turns, "transcribe")


@post("/v1/audio/translations", status_code=200)
async def create_translation(
    request: Request[Any, Any, Any],
    catalog: NamedDependency[Catalog],
    settings: NamedDependency[Settings],
    decoders: NamedDependency[Decoders],
    ledger: NamedDependency[Ledger],
    turns: NamedDependency[Turns],
) -> ASGIApp:
    """Write down what is said, in English."""
    return await _answer(request, catalog, settings, decoders, ledger, turns, "translate")


async def _answer(
    request: Request[Any, Any, Any],
    catalog: Catalog,
    settings: Settings,
    decoders: Decoders,
    ledger: Ledger,
    turns: Turns,
    task: Task,
) -> ASGIApp:
    form = await read_form(request)
    sound = sound_of(form, "file")
    body = parse_request(form)
    options = engine_options(body, task)
    engine = catalog.transcription_engine(body.model)
    info = await unless_gone(request.receive, engine.ready())
    recording = Recording(sound, info.sample_rate, settings.limits.decode, decoders)
    await unless_gone(request.receive, recording.open())
    context = context_of(request.scope)
    asked = Asked(
        context=context,
        task="transcription",
        owner=owner_of(request),
        model=body.model,
        engine=info.name,
        format=body.response_format or "json",
        facts={"task": task, **client_facts(request.headers)},
    )
    meter = TranscriptMeter(ledger, asked, lambda: recording.duration_s)
    heard = engine.transcribe(recording.blocks(), options, context.request_id)
    parts = meter.watch(turns.taken(engine.name, context, heard))
    try:
        if body.stream and task == "transcribe":
            return await _streamed(request, body, info, recording, parts, meter)
        work = collect(task, recording, parts)
        transcript = await unless_gone(request.receive, work)
    except (Exception, asyncio.CancelledError) as exc:
        meter.ended(exc)
        await recording.aclose()
        raise
    meter.ended(None)
    content, media_type = whole(transcript, body)
    return ASGIResponse(
        body=content, media_type=media_type, status_code=200, headers=engine_headers(info)
    )


async def _streamed(
    request: Request[Any, Any, Any],
    body: TranscriptionRequest,
    info: EngineInfo,
    recording: Recording,
    parts: Parts,
    meter: TranscriptMeter,
) -> StreamedBody:
    """Begins once the recording has been found to be one."""
    heard = await unless_gone(request.receive, anext(parts))
    assert isinstance(heard, TranscriptInfo), "the info comes first"
    events = _events(TranscriptEvents(body), heard, recording, parts)
    first = b": listening\n\n"
    return StreamedBody(first, events, SSE_MEDIA_TYPE, engine_headers(info), meter.ended)


async def _events(
    events: TranscriptEvents, heard: TranscriptInfo, recording: Recording, parts: Parts
) -> AsyncGenerator[bytes, None]:
    async with aclosing(parts):
        try:
            async for part in parts:
                if isinstance(part, Segment) and (event := events.delta(part)):
                    yield event
        except Exception as exc:
            yield error_event(exc)
            raise
    yield events.done(heard, recording.duration_s)
