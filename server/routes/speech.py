"""POST /v1/audio/speech: text to audio, streamed."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from functools import partial
from typing import Any

from litestar import Request, post
from litestar.di import NamedDependency
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Receive

from engine.errors import EngineFault, UnknownVoice
from engine.protocol import PromptSource
from engine.types import EngineInfo
from server.auth import owner_of
from server.borrowed import BorrowedVoice, base64_chars, recording_of
from server.catalog import Catalog
from server.context import client_facts, context_of
from server.enrollment import Enroller
from server.errors import ApiError
from server.library import VoiceLibrary
from server.recents import Ledger
from server.schemas.body import read_bulky_json
from server.schemas.speech import SpeechRequest
from server.settings import Limits, Settings
from server.speaking import Asker, Speaker, Speech, begin_speech
from server.speech import (
    as_bytes,
    as_events,
    encode_clip,
    stream_encoded,
)
from server.streaming import SSE_MEDIA_TYPE, StreamedBody, unless_gone
from server.turns import Turns


# No limit of its own: `_read` has one, which depends on what is in the body.
@post("/v1/audio/speech", status_code=200, request_max_body_size=None)
async def create_speech(
    request: Request[Any, Any, Any],
    catalog: NamedDependency[Catalog],
    settings: NamedDependency[Settings],
    codecs: NamedDependency[Executor],
    library: NamedDependency[VoiceLibrary],
    enroller: NamedDependency[Enroller],
    ledger: NamedDependency[Ledger],
    turns: NamedDependency[Turns],
) -> ASGIApp:
    """Speak a text. The first audio exists before the answer begins."""
    body = await _read(request, settings.limits)
    engine = catalog.speech_engine(body.model)
    info = await unless_gone(request.receive, engine.ready())
    source: PromptSource | None
    if body.ref_audio is None:
        voice = await library.resolve(body.voice_name, owner_of(request), engine.name, info)
        source = partial(library.prompt_of, voice.profile) if voice.profile else None
    else:
        borrowing = _borrow(request, body, info, settings, library, enroller)
        lent = await unless_gone(request.receive, borrowing)
        voice, source = lent.speaking(info), lent.read
    shown = body.voice_name if body.ref_audio is None else "ref_audio"
    speech = begin_speech(
        body,
        Speaker(engine, info, voice, source, shown),
        Asker(context_of(request.scope), owner_of(request), client_facts(request.headers)),
        settings.limits.input_chars,
        ledger,
        turns,
    )
    try:
        if body.is_whole:
            return await _whole(request.receive, speech, codecs)
        return await _streamed(request.receive, body, speech, codecs)
    except UnknownVoice as exc:
        speech.meter.ended(exc)
        if body.ref_audio is not None:
            raise
        raise catalog.unknown_voice(engine.name, body.voice_name) from exc
    except (Exception, asyncio.CancelledError) as exc:
        speech.meter.ended(exc)
        raise


async def _read(request: Request[Any, Any, Any], limits: Limits) -> SpeechRequest:
    """The body, in which a recording may be as large as one that is uploaded."""
    bulk_bytes = base64_chars(limits.upload_bytes)
    return await read_bulky_json(SpeechRequest, request, "ref_audio", bulk_bytes, limits.json_bytes)


async def _borrow(
    request: Request[Any, Any, Any],
    body: SpeechRequest,
    info: EngineInfo,
    settings: Settings,
    library: VoiceLibrary,
    enroller: Enroller,
) -> BorrowedVoice:
    """The voice that a request brings along."""
    assert body.ref_audio is not None
    if settings.voices.require_consent:
        message = "ref_audio: voices need a consent here: upload it as a voice instead"
        raise ApiError(400, message, param="ref_audio", code="consent_required")
    decode = partial(recording_of, body.ref_audio, settings.limits.upload_bytes)
    return await enroller.borrow(
        await library.run(decode),
        body.ref_text or None,
        needs_text=info.clones_voices,
        context=context_of(request.scope),
    )


async def _whole(receive: Receive, speech: Speech, codecs: Executor) -> ASGIResponse:
    clip = await unless_gone(receive, encode_clip(speech.plan, speech.chunks, codecs))
    speech.meter.sent(clip)
    speech.meter.ended(None)
    return ASGIResponse(
        body=clip, headers=speech.headers, media_type=speech.plan.media_type, status_code=200
    )


async def _streamed(
    receive: Receive, body: SpeechRequest, speech: Speech, codecs: Executor
) -> StreamedBody:
    plan, meter = speech.plan, speech.meter
    audio = stream_encoded(plan, speech.chunks, codecs)
    parts = as_events(audio, meter, plan) if body.is_sse else as_bytes(audio, meter)
    try:
        first = await unless_gone(receive, anext(parts))
    except StopAsyncIteration:
        raise EngineFault("the engine gave no audio") from None
    media_type = SSE_MEDIA_TYPE if body.is_sse else plan.media_type
    return StreamedBody(first, parts, media_type, speech.headers | meter.headers, meter.ended)
