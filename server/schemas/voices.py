"""Voices and consents, as OpenAI's SDK knows them, and what we add."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from voices.profile import PromptReport, TextSource


class Voice(Struct, frozen=True, kw_only=True):
    """A voice: OpenAI's five fields, then ours. Null where a voice has no such thing."""

    id: str
    name: str
    object: Literal["audio.voice"] = "audio.voice"
    created_at: int
    type: Literal["builtin", "engine", "audio_sample"]
    """"builtin": a name of the settings' table. "engine": the engine brings it. "audio_sample":
    somebody's."""
    language: str | None = None
    prompt_text: str | None = None
    text_source: TextSource | None = None
    text_engine: str | None = None
    text_confidence: float | None = None
    text_is_reliable: bool | None = None
    description: str | None = None
    duration_s: float | None = None
    report: PromptReport | None = None


class NewVoice(Voice, frozen=True, kw_only=True):
    """What other servers' clients look for in the answer to an upload."""

    success: bool = True


class VoiceList(Struct, frozen=True):
    """The union of the shapes that clients expect of this unofficial list."""

    voices: tuple[Voice, ...]
    data: tuple[Voice, ...]
    uploaded_voices: tuple[Voice, ...]
    object: Literal["list"] = "list"
    has_more: bool = False


class VoiceDeleted(Struct, frozen=True):
    id: str
    object: Literal["audio.voice.deleted"] = "audio.voice.deleted"
    deleted: bool = True
    success: bool = True


class Consent(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    language: str
    created_at: int
    object: Literal["audio.voice_consent"] = "audio.voice_consent"


class ConsentList(Struct, frozen=True):
    data: tuple[Consent, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class ConsentDeleted(Struct, frozen=True):
    id: str
    object: Literal["audio.voice_consent"] = "audio.voice_consent"
    deleted: bool = True


class ConsentChange(Struct, frozen=True):
    name: str
