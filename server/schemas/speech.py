"""POST /v1/audio/speech."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from server.audio.formats import ResponseFormat
from server.errors import ErrorDetail


class VoiceRef(Struct, frozen=True):
    """A voice by id."""

    id: str


class SpeechRequest(Struct, frozen=True, kw_only=True):
    """OpenAI's fields, then ours. Unknown fields are ignored; null means the default."""

    model: str
    input: str
    voice: str | VoiceRef
    instructions: Annotated[str, Meta(max_length=4096)] | None = None
    response_format: ResponseFormat | None = None
    speed: Annotated[float, Meta(ge=0.25, le=4.0)] | None = None
    stream_format: Literal["audio", "sse"] | None = None

    language: str | None = None
    """BCP 47; told from the text and the voice when absent."""
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    sample_rate: int | None = None
    """Hz; 24000 when absent."""
    stream: bool | None = None
    """True: the same as stream_format "sse". False: the whole clip at once, of known length."""
    timestamp_granularities: tuple[Literal["word"], ...] | None = None
    """("word",): word times as events of their own in an SSE stream."""

    @property
    def voice_name(self) -> str:
        return self.voice.id if isinstance(self.voice, VoiceRef) else self.voice

    @property
    def is_sse(self) -> bool:
        return self.stream_format == "sse" or (self.stream_format is None and self.stream is True)

    @property
    def is_whole(self) -> bool:
        return self.stream is False and not self.is_sse


class AudioDelta(Struct, frozen=True, tag_field="type", tag="speech.audio.delta"):
    audio: str
    """base64 of the next bytes of the stream in response_format."""


class WordTime(Struct, frozen=True):
    word: str
    start: float
    """Seconds into the clip."""


class WordTimes(Struct, frozen=True, tag_field="type", tag="speech.audio.words"):
    """Ours: the words that begin in the next delta."""

    words: tuple[WordTime, ...]


class SpeechUsage(Struct, frozen=True):
    input_tokens: int
    """Code points of input."""
    output_tokens: int
    """Frames of 20 ms."""
    total_tokens: int


class AudioDone(Struct, frozen=True, tag_field="type", tag="speech.audio.done"):
    usage: SpeechUsage


class SpeechErrorEvent(Struct, frozen=True, tag_field="type", tag="speech.audio.error"):
    """Ours: the speech failed; the connection is broken off behind it."""

    error: ErrorDetail
