"""The article's form for a speech, put into the words of /v1."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request
from litestar.datastructures import FormMultiDict, UploadFile
from msgspec import Struct

from server.audio.formats import ResponseFormat
from server.errors import ApiError
from server.forms import flag_of, read_form_or_text, required_text_of, text_of
from server.schemas.body import refusal
from server.schemas.speech import SpeechRequest

_DRAWN_BY = ("strategy", "sampling_strategy", "temperature", "top_p", "top_k", "seed")
"""Fields that are called the same at /v1."""


class BroughtVoice(Struct, frozen=True):
    """A recording that came with the form."""

    recording: bytes
    text: str | None
    """What is said in it; None: nobody said."""


async def read_speech_form(
    request: Request[Any, Any, Any], model: str, response_format: ResponseFormat
) -> tuple[SpeechRequest, BroughtVoice | None]:
    """The form in the words of /v1, within its limits, and the recording to speak with if it brings
    one: `voice` is the name of its field then.

    Args:
        request: Unread.
        model: That is to speak.
        response_format: Of the answer.
    Raises:
        ApiError: 400, `param` names the field by the form's name, or by that of /v1.
    """
    form = await read_form_or_text(request)
    fields = {
        "model": model,
        "input": required_text_of(form, "text"),
        "response_format": response_format,
        **{name: value for name in _DRAWN_BY if (value := text_of(form, name)) is not None},
    }
    brought = None
    if (upload := _upload_of(form)) is not None:
        brought = BroughtVoice(await upload.read(), _prompt_text_of(form))
        fields |= {"voice": "prompt_audio"}
    elif (voice := text_of(form, "voice_id")) is not None:
        fields |= {"voice": voice}
    else:
        message = "a voice is needed: voice_id, or a recording as prompt_audio"
        raise ApiError(400, message, param="voice_id", code="missing_required_parameter")
    try:
        return msgspec.convert(fields, SpeechRequest, strict=False), brought
    except msgspec.ValidationError as exc:
        raise refusal(exc) from exc


def _upload_of(form: FormMultiDict) -> UploadFile | None:
    """The recording; browsers send a part without a file name for none."""
    parts = form.getall("prompt_audio", [])
    return next((part for part in parts if isinstance(part, UploadFile) and part.filename), None)


def _prompt_text_of(form: FormMultiDict) -> str | None:
    text = text_of(form, "prompt_text")
    if text is None and flag_of(form, "skip_whisper"):
        message = "prompt_text: must be given when skip_whisper is true"
        raise ApiError(400, message, param="prompt_text", code="missing_required_parameter")
    return text or None
