"""The operations of /api."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from server.openapi.forms import ArticleSpeechFields, ArticleSpeechForm, ArticleVoiceForm
from server.openapi.parts import Binary, Content, Events, Form, Operation
from server.schemas.article import (
    ArticleError,
    ArticleVoice,
    ArticleVoiceDeleted,
    ArticleVoices,
    Chunk,
    Complete,
    Emotions,
    Failed,
    GpuOffload,
    GpuStatus,
    Progress,
)

_EVENTS: Content = {"text/event-stream": Events((Progress, Chunk, Complete, Failed))}
_SPEECH_FORMS: Content = {
    "multipart/form-data": Form(ArticleSpeechForm),
    "application/x-www-form-urlencoded": Form(ArticleSpeechFields),
}


def _operation(
    handler: str,
    summary: str,
    answer: Content,
    *errors: int,
    body: Content | None = None,
) -> Operation:
    return Operation(
        id=handler,
        tag="Article",
        summary=summary,
        body=body,
        answers={200: answer},
        errors=errors,
        error={"application/json": ArticleError},
    )


def _json(schema: object) -> Content:
    return {"application/json": schema}


ARTICLE: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "POST /api/tts": _operation(
            "speak",
            "A text to a wave file, or to events for who accepts them",
            {"audio/wav": Binary, **_EVENTS},
            404,
            429,
            body=_SPEECH_FORMS,
        ),
        "POST /api/tts/stream": _operation(
            "speak_streamed", "A text to events", _EVENTS, 404, 429, body=_SPEECH_FORMS
        ),
        "GET /api/voices": _operation("list_article_voices", "Stored voices", _json(ArticleVoices)),
        "POST /api/voices": _operation(
            "create_article_voice",
            "Keep a recording as a voice",
            _json(ArticleVoice),
            404,
            429,
            507,
            body={"multipart/form-data": Form(ArticleVoiceForm)},
        ),
        "GET /api/voices/{voice}": _operation(
            "get_article_voice", "A stored voice, by id or name", _json(ArticleVoice), 404
        ),
        "DELETE /api/voices/{voice}": _operation(
            "delete_article_voice", "Delete a stored voice", _json(ArticleVoiceDeleted), 403, 404
        ),
        "GET /api/voices/{voice}/audio": _operation(
            "get_article_voice_audio", "The recording as a wave file", {"audio/wav": Binary}, 404
        ),
        "GET /api/gpu/status": _operation(
            "get_gpu_status", "What the engines take of the GPUs", _json(GpuStatus)
        ),
        "POST /api/gpu/offload": _operation(
            "offload_gpu", "Send every engine off its GPU", _json(GpuOffload), 400
        ),
        "GET /api/emotions": _operation("list_emotions", "None", _json(Emotions)),
    }
)
