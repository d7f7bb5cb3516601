"""Every operation of the API: OpenAI's, and ours beside them. Those of /api are in `article`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final

from msgspec import Meta

from server.audio.formats import FORMATS
from server.openapi.article import ARTICLE
from server.openapi.forms import (
    ArchiveForm,
    ConsentForm,
    TranscriptionForm,
    TranslationForm,
    VoiceForm,
)
from server.openapi.parts import (
    NOTHING,
    Binary,
    Content,
    Events,
    Form,
    Operation,
    Query,
    RpcMessage,
)
from server.routes.health import Health, Readiness
from server.routes.page import About
from server.schemas.catalog import AudioModels, Model, ModelList
from server.schemas.engines import EngineEntry, EngineList
from server.schemas.requests import RequestList
from server.schemas.speech import (
    AudioDelta,
    AudioDone,
    SpeechErrorEvent,
    SpeechRequest,
    WordTimes,
)
from server.schemas.transcription import (
    TextDelta,
    TextDone,
    TextSegment,
    TranscriptErrorEvent,
    Transcription,
    Translation,
    VerboseTranscription,
)
from server.schemas.voices import (
    Consent,
    ConsentChange,
    ConsentDeleted,
    ConsentList,
    NewVoice,
    Voice,
    VoiceDeleted,
    VoiceList,
)
from voices.profile import VoiceEdit

_SSE = "text/event-stream"
_SpeechBody = Annotated[
    SpeechRequest,
    Meta(extra_json_schema={"anyOf": [{"required": ["voice"]}, {"required": ["ref_audio"]}]}),
]
_SPEECH_EVENTS = Events((AudioDelta, WordTimes, AudioDone, SpeechErrorEvent))
_TEXT_EVENTS = Events((TextDelta, TextSegment, TextDone, TranscriptErrorEvent))
_RPC: Content = {"application/json": Any, "text/plain": str}
_PAGES: Content = {
    "text/html": str,
    "text/css": str,
    "text/javascript": str,
    "image/svg+xml": str,
}


def _json(schema: object) -> Content:
    return {"application/json": schema}


def _form(fields: type) -> Content:
    return {"multipart/form-data": Form(fields)}


_SPEECH: Mapping[str, Operation] = {
    "POST /v1/audio/speech": Operation(
        id="create_speech",
        tag="Speech",
        summary="Speak a text",
        body=_json(_SpeechBody),
        answers={
            200: {each.media_type: Binary for each in FORMATS.values()} | {_SSE: _SPEECH_EVENTS}
        },
        errors=(404, 429),
    ),
}

_TRANSCRIPTION: Mapping[str, Operation] = {
    "POST /v1/audio/transcriptions": Operation(
        id="create_transcription",
        tag="Transcription",
        summary="Write down what is said, in its own language",
        body=_form(TranscriptionForm),
        answers={
            200: {
                "application/json": (Transcription, VerboseTranscription),
                "text/plain": str,
                _SSE: _TEXT_EVENTS,
            }
        },
        errors=(404, 429),
    ),
    "POST /v1/audio/translations": Operation(
        id="create_translation",
        tag="Transcription",
        summary="Write down what is said, in English",
        body=_form(TranslationForm),
        answers={200: {"application/json": (Translation, VerboseTranscription), "text/plain": str}},
        errors=(404, 429),
    ),
}

_VOICES: Mapping[str, Operation] = {
    "GET /v1/audio/voices": Operation(
        id="list_voices",
        tag="Voices",
        summary="Built-in names, stored voices, and those that the engines bring",
        access="catalog",
        answers={200: _json(VoiceList)},
    ),
    "POST /v1/audio/voices": Operation(
        id="create_voice",
        tag="Voices",
        summary="Keep a recording as a voice",
        body=_form(VoiceForm),
        answers={200: _json(NewVoice)},
        errors=(404, 429, 507),
    ),
    "POST /v1/audio/voices/import": Operation(
        id="import_voice",
        tag="Voices",
        summary="Keep an exported voice, under a new id",
        body=_form(ArchiveForm),
        answers={200: _json(NewVoice)},
        errors=(507,),
    ),
    "GET /v1/audio/voices/{voice}": Operation(
        id="get_voice",
        tag="Voices",
        summary="A stored voice, by id or name",
        answers={200: _json(Voice)},
        errors=(404,),
    ),
    "PATCH /v1/audio/voices/{voice}": Operation(
        id="change_voice",
        tag="Voices",
        summary="Rename a voice, or correct what is said in it",
        body=_json(VoiceEdit),
        answers={200: _json(Voice)},
        errors=(403, 404, 507),
    ),
    "DELETE /v1/audio/voices/{voice}": Operation(
        id="delete_voice",
        tag="Voices",
        summary="Delete a stored voice; who speaks with it now finishes",
        answers={200: _json(VoiceDeleted)},
        errors=(403, 404),
    ),
    "GET /v1/audio/voices/{voice}/audio": Operation(
        id="get_voice_audio",
        tag="Voices",
        summary="The recording as it is kept",
        answers={200: {"audio/flac": Binary}},
        errors=(404,),
    ),
    "GET /v1/audio/voices/{voice}/export": Operation(
        id="export_voice",
        tag="Voices",
        summary="The voice as one file, to be imported here or elsewhere",
        answers={200: {"application/zip": Binary}},
        errors=(404,),
    ),
}

_CONSENTS: Mapping[str, Operation] = {
    "POST /v1/audio/voice_consents": Operation(
        id="create_consent",
        tag="Consents",
        summary="Keep the recording in which somebody agrees",
        body=_form(ConsentForm),
        answers={200: _json(Consent)},
        errors=(507,),
    ),
    "GET /v1/audio/voice_consents": Operation(
        id="list_consents",
        tag="Consents",
        summary="A page of consents, newest first",
        query=(
            Query("limit", int, "How many, 1 to 100; 20 if absent."),
            Query("after", str, "The `last_id` of the page before."),
        ),
        answers={200: _json(ConsentList)},
        errors=(400, 404),
    ),
    "GET /v1/audio/voice_consents/{consent}": Operation(
        id="get_consent",
        tag="Consents",
        summary="A consent",
        answers={200: _json(Consent)},
        errors=(404,),
    ),
    "POST /v1/audio/voice_consents/{consent}": Operation(
        id="rename_consent",
        tag="Consents",
        summary="Rename a consent",
        body=_json(ConsentChange),
        answers={200: _json(Consent)},
        errors=(403, 404, 507),
    ),
    "DELETE /v1/audio/voice_consents/{consent}": Operation(
        id="delete_consent",
        tag="Consents",
        summary="Delete a consent",
        answers={200: _json(ConsentDeleted)},
        errors=(403, 404),
    ),
}

_MODELS: Mapping[str, Operation] = {
    "GET /v1/models": Operation(
        id="list_models",
        tag="Models",
        summary="All models, aliases among them",
        access="catalog",
        answers={200: _json(ModelList)},
    ),
    "GET /v1/models/{model_id}": Operation(
        id="get_model",
        tag="Models",
        summary="One model; its id may hold slashes",
        access="catalog",
        answers={200: _json(Model)},
        errors=(404,),
    ),
    "GET /v1/audio/models": Operation(
        id="list_audio_models",
        tag="Models",
        summary="The same in the form that Open WebUI asks for",
        access="catalog",
        answers={200: _json(AudioModels)},
    ),
}


def _of_engine(handler: str, summary: str, *errors: int) -> Operation:
    return Operation(
        id=handler,
        tag="Engines",
        summary=summary,
        answers={200: _json(EngineEntry)},
        errors=(404, *errors),
    )


_ENGINES: Mapping[str, Operation] = {
    "GET /v1/engines": Operation(
        id="list_engines",
        tag="Engines",
        summary="Engines and workers, and what each takes of its device",
        answers={200: _json(EngineList)},
    ),
    "GET /v1/engines/{name}": _of_engine("get_engine", "One engine"),
    "POST /v1/engines/{name}/load": _of_engine(
        "load_engine", "Bring it to its device; answers when it is there"
    ),
    "POST /v1/engines/{name}/offload": _of_engine(
        "offload_engine", "Take its weights to the host's memory", 400
    ),
    "POST /v1/engines/{name}/stop": _of_engine("stop_engine", "End its workers", 400),
}

_OPERATION: Mapping[str, Operation] = {
    "GET /metrics": Operation(
        id="get_metrics",
        tag="Operation",
        summary="Figures for Prometheus",
        answers={200: {"text/plain": str}},
    ),
    "GET /v1/requests": Operation(
        id="list_requests",
        tag="Operation",
        summary="What the last requests cost; only the caller's key's",
        answers={200: _json(RequestList)},
    ),
    "GET /health": Operation(
        id="get_health",
        tag="Operation",
        summary="The process answers",
        access="open",
        answers={200: _json(Health)},
    ),
    "GET /ready": Operation(
        id="get_ready",
        tag="Operation",
        summary="Every engine that has its model takes requests; else 503",
        access="open",
        answers={200: _json(Readiness), 503: _json(Readiness)},
    ),
    "GET /openapi.json": Operation(
        id="get_openapi",
        tag="Operation",
        summary="This document",
        access="open",
        answers={200: _json(Any)},
    ),
}

_PAGE: Mapping[str, Operation] = {
    "GET /": Operation(
        id="get_root",
        tag="Page",
        summary="The page for browsers; name and version for all others",
        access="open",
        answers={200: {"application/json": About, "text/html": str}, 304: NOTHING},
    ),
    "GET /v1": Operation(
        id="get_about",
        tag="Page",
        summary="Name and version",
        access="open",
        answers={200: _json(About)},
    ),
    "GET /static/{path}": Operation(
        id="get_static",
        tag="Page",
        summary="A file of the page; the path may hold slashes",
        access="open",
        answers={200: _PAGES, 304: NOTHING},
        errors=(404,),
    ),
}

_MCP: Mapping[str, Operation] = {
    "POST /mcp": Operation(
        id="post_mcp",
        tag="MCP",
        summary="A message of the Model Context Protocol, over streamable HTTP",
        body=_json(RpcMessage),
        answers={200: {"application/json": Any, _SSE: Events((Any,))}, 202: NOTHING},
        errors=(403, 404, 406, 415, 421, 501),
        error=_RPC,
    ),
    "DELETE /mcp": Operation(
        id="delete_mcp",
        tag="MCP",
        summary="End a session",
        answers={200: _json(Any)},
        errors=(400, 403, 404, 406, 421, 501),
        error=_RPC,
    ),
}

OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        **_SPEECH,
        **_TRANSCRIPTION,
        **_VOICES,
        **_CONSENTS,
        **_MODELS,
        **_ENGINES,
        **_OPERATION,
        **_PAGE,
        **_MCP,
        **ARTICLE,
    }
)
"""By method and path."""
