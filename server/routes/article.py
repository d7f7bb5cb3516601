"""/api/...: the calls of the service in the article that this project began with.

Each is put into the words of /v1 and goes the same way; only names and shapes are the article's.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Executor
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any

from litestar import Request, Response, Router, post
from litestar.di import NamedDependency, Provide
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp
from msgspec import Struct
from msgspec.structs import replace

from engine.errors import EngineFault, UnknownVoice
from engine.protocol import PromptSource, SpeechEngine
from engine.types import EngineInfo, PcmChunk
from server.audio.formats import ResponseFormat
from server.audio.pcm import wav_header
from server.auth import owner_of
from server.catalog import Catalog
from server.context import client_facts, context_of
from server.enrollment import Enroller
from server.errors import ApiError, as_api_error, handle_error
from server.library import SpeakingVoice, VoiceLibrary
from server.meters import SpeechMeter
from server.recents import Ledger
from server.routes.article_form import BroughtVoice, read_speech_form
from server.routes.article_gpu import get_gpu_status, list_emotions, offload_gpu
from server.routes.article_voices import (
    create_article_voice,
    delete_article_voice,
    get_article_voice,
    get_article_voice_audio,
    list_article_voices,
)
from server.schemas.article import ArticleError, Chunk, Complete, Failed, Progress
from server.settings import Settings
from server.speaking import Asker, Speaker, Speech, begin_speech
from server.speech import encode_clip, stream_encoded
from server.streaming import SSE_MEDIA_TYPE, EncodedChunk, StreamedBody, sse, unless_gone
from server.turns import Turns

_SAMPLE_BYTES = 2
_NAMES = {"input": "text", "ref_audio": "prompt_audio", "ref_text": "prompt_text"}
"""What /v1 calls a field -> what it is called here."""


class Desk(Struct, frozen=True):
    """What a speech request needs of the server."""

    catalog: Catalog
    settings: Settings
    library: VoiceLibrary
    enroller: Enroller
    ledger: Ledger
    turns: Turns


def article_router(upload_bytes: int) -> Router:
    """All of /api.

    Args:
        upload_bytes: Of a form, at most.
    """
    return Router(
        "/api",
        route_handlers=[
            speak,
            speak_streamed,
            list_article_voices,
            create_article_voice,
            get_article_voice,
            get_article_voice_audio,
            delete_article_voice,
            get_gpu_status,
            offload_gpu,
            list_emotions,
        ],
        dependencies={"desk": Provide(_desk, sync_to_thread=False)},
        exception_handlers={Exception: _refuse},
        request_max_body_size=upload_bytes,
    )


@post("/tts", status_code=200, opt={"names": _NAMES})
async def speak(
    request: Request[Any, Any, Any],
    desk: NamedDependency[Desk],
    codecs: NamedDependency[Executor],
) -> ASGIApp:
    """A form to a wave file, or to events for who accepts them."""
    if "text/event-stream" in request.headers.get("accept", ""):
        return await _streamed(request, desk, codecs)
    speech = await _begin(request, desk, "wav")
    with _ending(speech.meter):
        clip = encode_clip(speech.plan, speech.chunks, codecs)
        wav = await unless_gone(request.receive, clip)
        speech.meter.sent(wav)
    speech.meter.ended(None)
    name = f"output_{context_of(request.scope).request_id}.wav"
    headers = {**speech.headers, "content-disposition": f'attachment; filename="{name}"'}
    return ASGIResponse(
        body=wav, headers=headers, media_type=speech.plan.media_type, status_code=200
    )


@post("/tts/stream", status_code=200, opt={"names": _NAMES})
async def speak_streamed(
    request: Request[Any, Any, Any],
    desk: NamedDependency[Desk],
    codecs: NamedDependency[Executor],
) -> ASGIApp:
    """A form to events; the first audio exists before the answer begins."""
    return await _streamed(request, desk, codecs)


async def _streamed(request: Request[Any, Any, Any], desk: Desk, codecs: Executor) -> ASGIApp:
    speech = await _begin(request, desk, "pcm")
    with _ending(speech.meter):
        events = _events(stream_encoded(speech.plan, speech.chunks, codecs), speech)
        first = await unless_gone(request.receive, anext(events))
    headers = speech.headers | speech.meter.headers
    return StreamedBody(first, events, SSE_MEDIA_TYPE, headers, speech.meter.ended)


async def _events(
    audio: AsyncGenerator[EncodedChunk, None], speech: Speech
) -> AsyncGenerator[bytes, None]:
    """A speech as the article's events; a failure is one too, and breaks the stream off."""
    meter, rate = speech.meter, speech.plan.sample_rate
    chunks, pcm_bytes = 0, 0
    async with aclosing(audio):
        try:
            async for encoded in audio:
                if encoded.data:
                    meter.sent(encoded.data)
                    pcm_bytes += len(encoded.data)
                    yield sse(_progress(encoded, meter)) + sse(_chunk(chunks, encoded.data, rate))
                    chunks += 1
            if not chunks:
                raise EngineFault("the engine gave no audio")
        except Exception as exc:
            # Before the first event this is not seen: the error becomes the answer instead.
            if chunks:
                yield sse(Failed(str(as_api_error(exc))))
            raise
    figures = meter.figures
    yield sse(
        Complete(
            chunks=chunks,
            duration=round(pcm_bytes / _SAMPLE_BYTES / rate, 4),
            ttfa=figures.ttfa_s,
            rtf=figures.rtf,
            elapsed=figures.wall_s,
            sample_rate=rate,
        )
    )


def _progress(chunk: EncodedChunk, meter: SpeechMeter) -> Progress:
    progress = None if chunk.progress is None else round(chunk.progress, 4)
    return Progress(progress=progress, duration=meter.figures.audio_s, elapsed=meter.figures.wall_s)


def _chunk(index: int, pcm: bytes, sample_rate: int) -> Chunk:
    # The article's clients join what they decode and call it a wave file.
    header = b"" if index else wav_header(sample_rate)
    return Chunk(
        index=index,
        audio=b64encode(header + pcm).decode(),
        header_bytes=len(header),
        sample_rate=sample_rate,
    )


async def _begin(
    request: Request[Any, Any, Any], desk: Desk, response_format: ResponseFormat
) -> Speech:
    """Read the form, find engine and voice, and set the engine to work."""
    engine = desk.catalog.preferred_speaker()
    body, brought = await read_speech_form(request, engine.name, response_format)
    info = await unless_gone(request.receive, engine.ready())
    finding = (
        _stored_voice(request, body.voice_name, engine, info, desk)
        if brought is None
        else _borrowed_voice(request, brought, info, desk)
    )
    voice, source = await unless_gone(request.receive, finding)
    speech = begin_speech(
        body,
        Speaker(engine, info, voice, source, body.voice_name),
        Asker(context_of(request.scope), owner_of(request), client_facts(request.headers)),
        desk.settings.limits.input_chars,
        desk.ledger,
        desk.turns,
    )
    if brought is not None:
        return speech
    return replace(speech, chunks=_known(speech.chunks, body.voice_name))


async def _stored_voice(
    request: Request[Any, Any, Any], name: str, engine: SpeechEngine, info: EngineInfo, desk: Desk
) -> tuple[SpeakingVoice, PromptSource | None]:
    """The voice of this name, and where its sound is if somebody recorded it."""
    voice = await desk.library.resolve(name, owner_of(request), engine.name, info)
    return voice, partial(desk.library.prompt_of, voice.profile) if voice.profile else None


async def _borrowed_voice(
    request: Request[Any, Any, Any], brought: BroughtVoice, info: EngineInfo, desk: Desk
) -> tuple[SpeakingVoice, PromptSource]:
    """The voice that came along and is stored nowhere."""
    if desk.settings.voices.require_consent:
        message = "prompt_audio: voices need a consent here: store it as a voice instead"
        raise ApiError(400, message, param="prompt_audio", code="consent_required")
    lent = await desk.enroller.borrow(
        brought.recording,
        brought.text,
        needs_text=info.clones_voices,
        context=context_of(request.scope),
    )
    return lent.speaking(info), lent.read


async def _known(
    chunks: AsyncGenerator[PcmChunk, None], voice: str
) -> AsyncGenerator[PcmChunk, None]:
    """The same chunks; that the engine has no such voice is said as the article says it."""
    async with aclosing(chunks):
        try:
            async for chunk in chunks:
                yield chunk
        except UnknownVoice as exc:
            message = f"Voice not found: {voice[:200]!r}"
            raise ApiError(404, message, param="voice_id", code="voice_not_found") from exc


@contextmanager
def _ending(meter: SpeechMeter) -> Iterator[None]:
    """Tells the meter of a failure."""
    try:
        yield
    except (Exception, asyncio.CancelledError) as exc:
        meter.ended(exc)
        raise


def _refuse(request: Request[Any, Any, Any], error: Exception) -> Response[ArticleError]:
    """An error as /v1 has it, with the form's names of fields and a `detail`."""
    answer = handle_error(request, error)
    detail = answer.content.error
    names: dict[str, str] = request.scope["route_handler"].opt.get("names", {})
    if (param := detail.param) is not None and param in names:
        message = re.sub(rf"\b{param}\b", names[param], detail.message)
        detail = replace(detail, message=message, param=names[param])
    return Response(
        ArticleError(detail, detail.message),
        status_code=answer.status_code,
        headers=answer.headers,
        media_type=answer.media_type,
    )


def _desk(
    catalog: NamedDependency[Catalog],
    settings: NamedDependency[Settings],
    library: NamedDependency[VoiceLibrary],
    enroller: NamedDependency[Enroller],
    ledger: NamedDependency[Ledger],
    turns: NamedDependency[Turns],
) -> Desk:
    return Desk(catalog, settings, library, enroller, ledger, turns)
