"""The fields of forms. The handlers read them by hand, in more spellings than stand here."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from server.openapi.parts import Binary
from server.schemas.speech import Strategy
from server.schemas.transcription import TranscriptionRequest

_Language = Annotated[str, Meta(description="BCP 47.")]
_SaidInIt = Annotated[
    str, Meta(description="What is said in the recording; transcribed if it is absent.")
]
_Unheard = Annotated[bool, Meta(description="The recording is not transcribed.")]
_ConsentId = Annotated[str, Meta(description="Of a consent, where this server wants one.")]


class TranscriptionForm(TranscriptionRequest, frozen=True, kw_only=True):
    """OpenAI's fields. A list is repeated, also as `field[]`, or one text, with commas or JSON."""

    file: Binary


class TranslationForm(TranscriptionForm, frozen=True, kw_only=True):
    """As a transcription's; `stream` has no effect."""


class VoiceForm(Struct, frozen=True, kw_only=True):
    """A recording to keep as a voice."""

    name: str
    audio_sample: Binary
    prompt_text: _SaidInIt | UnsetType = UNSET
    ref_text: _SaidInIt | UnsetType = UNSET
    language: _Language | UnsetType = UNSET
    consent: _ConsentId | UnsetType = UNSET
    description: str | UnsetType = UNSET
    speaker_description: str | UnsetType = UNSET
    skip_whisper: _Unheard | UnsetType = UNSET


class ArchiveForm(Struct, frozen=True, kw_only=True):
    """An exported voice."""

    file: Binary
    name: Annotated[str, Meta(description="Instead of the one in it.")] | UnsetType = UNSET


class ConsentForm(Struct, frozen=True, kw_only=True):
    """The recording in which somebody agrees."""

    name: str
    language: _Language
    recording: Binary


class _ArticleText(Struct, frozen=True, kw_only=True):
    text: str
    strategy: Strategy | UnsetType = UNSET
    sampling_strategy: Strategy | UnsetType = UNSET
    temperature: Annotated[float, Meta(gt=0, le=2)] | UnsetType = UNSET
    top_p: Annotated[float, Meta(gt=0, le=1)] | UnsetType = UNSET
    top_k: Annotated[int, Meta(ge=1, le=1000)] | UnsetType = UNSET
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] | UnsetType = UNSET


class ArticleSpeechFields(_ArticleText, frozen=True, kw_only=True):
    """A text and a voice."""

    voice_id: str


class ArticleSpeechForm(_ArticleText, frozen=True, kw_only=True):
    """A text and a voice; one of `voice_id` and `prompt_audio` is needed, and the latter wins."""

    voice_id: str | UnsetType = UNSET
    prompt_audio: Binary | UnsetType = UNSET
    prompt_text: _SaidInIt | UnsetType = UNSET
    skip_whisper: _Unheard | UnsetType = UNSET


class ArticleVoiceForm(Struct, frozen=True, kw_only=True):
    """A recording to keep as a voice."""

    name: str
    audio: Binary
    text: _SaidInIt | UnsetType = UNSET
    consent: _ConsentId | UnsetType = UNSET
    skip_whisper: _Unheard | UnsetType = UNSET
