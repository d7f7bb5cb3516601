"""POST /v1/audio/speech: text to audio, streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from functools import partial
from typing import Any

from litestar import Request, post
from litestar.di import NamedDependency
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Receive

from engine.errors import EngineFault, UnknownVoice
from engine.types import PcmChunk
from server.auth import owner_of
from server.catalog import Catalog, engine_headers
from server.context import client_facts, context_of
from server.library import VoiceLibrary, voice_headers
from server.metrics import SpeechMeter
from server.schemas.body import read_json
from server.schemas.speech import SpeechRequest
from server.settings import Settings
from server.speech import (
    SpeechPlan,
    as_bytes,
    as_events,
    encode_clip,
    plan_speech,
    stream_encoded,
)
from server.streaming import SSE_MEDIA_TYPE, StreamedBody, unless_gone


@post("/v1/audio/speech", status_code=200)
async def create_speech(
    request: Request[Any, Any, Any],
    catalog: NamedDependency[Catalog],
    settings: NamedDependency[Settings],
    codecs: NamedDependency[Executor],
    library: NamedDependency[VoiceLibrary],
) -> ASGIApp:
    """Speak a text. The first audio exists before the answer begins."""
    body = await read_json(SpeechRequest, request)
    engine = catalog.speech_engine(body.model)
    info = await unless_gone(request.receive, engine.ready())
    voice = await library.resolve(body.voice_name, owner_of(request), engine.name, info)
    plan = plan_speech(body, info, voice, settings.limits.input_chars)
    context = context_of(request.scope)
    facts = {"engine": engine.name, **_facts(body, plan), **client_facts(request.headers)}
    meter = SpeechMeter(context, info.sample_rate, facts)
    source = partial(library.prompt_of, voice.profile) if voice.profile else None
    chunks = meter.watch(engine.synthesize(plan.request, context.request_id, source))
    headers = engine_headers(info) | voice_headers(voice, info)
    try:
        if body.is_whole:
            return await _whole(request.receive, plan, chunks, codecs, meter, headers)
        return await _streamed(request.receive, body, plan, chunks, codecs, meter, headers)
    except UnknownVoice as exc:
        meter.ended(exc)
        raise catalog.unknown_voice(engine.name, body.voice_name) from exc
    except (Exception, asyncio.CancelledError) as exc:
        meter.ended(exc)
        raise


async def _whole(
    receive: Receive,
    plan: SpeechPlan,
    chunks: AsyncGenerator[PcmChunk, None],
    codecs: Executor,
    meter: SpeechMeter,
    headers: dict[str, str],
) -> ASGIResponse:
    clip = await unless_gone(receive, encode_clip(plan, chunks, codecs))
    meter.sent(clip)
    meter.ended(None)
    return ASGIResponse(body=clip, headers=headers, media_type=plan.media_type, status_code=200)


async def _streamed(
    receive: Receive,
    body: SpeechRequest,
    plan: SpeechPlan,
    chunks: AsyncGenerator[PcmChunk, None],
    codecs: Executor,
    meter: SpeechMeter,
    headers: dict[str, str],
) -> StreamedBody:
    audio = stream_encoded(plan, chunks, codecs)
    parts = as_events(audio, meter, body, plan.tempo) if body.is_sse else as_bytes(audio, meter)
    try:
        first = await unless_gone(receive, anext(parts))
    except StopAsyncIteration:
        raise EngineFault("the engine gave no audio") from None
    media_type = SSE_MEDIA_TYPE if body.is_sse else plan.media_type
    return StreamedBody(first, parts, media_type, headers, meter.ended)


def _facts(body: SpeechRequest, plan: SpeechPlan) -> dict[str, str | int]:
    return {
        "voice": body.voice_name,
        "format": plan.response_format,
        "characters": len(body.input),
    }
