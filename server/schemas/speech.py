"""POST /v1/audio/speech."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from server.audio.formats import ResponseFormat
from server.errors import ErrorDetail
from server.schemas.requests import RequestFigures


class VoiceRef(Struct, frozen=True):
    """A voice by id."""

    id: str


Strategy = Literal["fast", "balanced", "quality"]


class SpeechRequest(Struct, frozen=True, kw_only=True):
    """OpenAI's fields, then ours. Unknown fields are ignored; null means the default."""

    model: str
    input: str
    voice: str | VoiceRef | None = None
    """Not needed, and ignored, with `ref_audio`."""
    instructions: Annotated[str, Meta(max_length=4096)] | None = None
    response_format: ResponseFormat | None = None
    speed: Annotated[float, Meta(ge=0.25, le=4.0)] | None = None
    stream_format: Literal["audio", "sse"] | None = None

    language: str | None = None
    """BCP 47; told from the text and the voice when absent."""
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    strategy: Strategy | None = None
    """A preset of the engine's, which the next three override."""
    sampling_strategy: Strategy | None = None
    """Another name for `strategy`."""
    temperature: Annotated[float, Meta(gt=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=1, le=1000)] | None = None
    ref_audio: str | None = None
    """A recording of the voice to speak with, for this request only: a data URL or base64."""
    ref_text: str | None = None
    """What is said in `ref_audio`; transcribed when absent or empty, if the engine needs it."""
    sample_rate: int | None = None
    """Hz; 24000 when absent."""
    stream: bool | None = None
    """True: the same as stream_format "sse". False: the whole clip at once, of known length."""
    timestamp_granularities: tuple[Literal["word"], ...] | None = None
    """("word",): word times as events of their own in an SSE stream."""

    def __post_init__(self) -> None:
        """In msgspec's own words, which name the field."""
        if self.ref_audio is None:
            if self.voice is None:
                raise ValueError("Object missing required field `voice`")
            if self.ref_text:
                raise ValueError("Is the text of `ref_audio`, which is missing - at `$.ref_text`")

    @property
    def voice_name(self) -> str:
        """Of a request without `ref_audio`."""
        assert self.voice is not None
        return self.voice.id if isinstance(self.voice, VoiceRef) else self.voice

    @property
    def is_sse(self) -> bool:
        return self.stream_format == "sse" or (self.stream_format is None and self.stream is True)

    @property
    def is_whole(self) -> bool:
        return self.stream is False and not self.is_sse


class AudioDelta(
    Struct, frozen=True, omit_defaults=True, tag_field="type", tag="speech.audio.delta"
):
    audio: str
    """base64 of the next bytes of the stream in response_format."""
    progress: float | None = None
    """Ours: the share of the text that has been spoken once this has been played, 0 to 1. Left out
    when the engine does not know."""


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
    rhapsode: RequestFigures
    """Ours: what the request cost."""


class SpeechErrorEvent(Struct, frozen=True, tag_field="type", tag="speech.audio.error"):
    """Ours: the speech failed; the connection is broken off behind it."""

    error: ErrorDetail
