"""POST /v1/audio/transcriptions and /v1/audio/translations."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from server.errors import ErrorDetail

TranscriptFormat = Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"]

SPEAKERS_MAX = 4


class ServerVad(Struct, frozen=True, kw_only=True):
    """chunking_strategy as an object."""

    type: Literal["server_vad"]
    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5
    prefix_padding_ms: Annotated[int, Meta(ge=0, le=10_000)] = 300
    silence_duration_ms: Annotated[int, Meta(ge=0, le=10_000)] = 200


class TranscriptionRequest(Struct, frozen=True, kw_only=True):
    """The form's fields but the file, read from all their spellings."""

    model: str
    language: str | None = None
    languages: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    prompt: str | None = None
    response_format: TranscriptFormat | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    timestamp_granularities: tuple[Literal["word", "segment"], ...] = ()
    include: tuple[Literal["logprobs"], ...] = ()
    stream: bool | None = None
    chunking_strategy: Literal["auto"] | ServerVad | None = None
    known_speaker_names: Annotated[tuple[str, ...], Meta(max_length=SPEAKERS_MAX)] = ()
    known_speaker_references: Annotated[tuple[str, ...], Meta(max_length=SPEAKERS_MAX)] = ()


class Language(Struct, frozen=True):
    code: str


class LogProb(Struct, frozen=True):
    """Of a word: engines that know those of tokens do not give them away."""

    token: str
    logprob: float
    bytes: tuple[int, ...]


class DurationUsage(Struct, frozen=True, tag_field="type", tag="duration"):
    seconds: int
    """Rounded up."""


class TokenDetails(Struct, frozen=True):
    text_tokens: int
    audio_tokens: int


class TokenUsage(Struct, frozen=True, tag_field="type", tag="tokens"):
    input_tokens: int
    """Tenths of a second of sound."""
    output_tokens: int
    """The engine's tokens; words where it has none."""
    total_tokens: int
    input_token_details: TokenDetails


class Transcription(Struct, frozen=True, kw_only=True):
    """response_format json."""

    text: str
    languages: tuple[Language, ...] = ()
    usage: DurationUsage
    logprobs: tuple[LogProb, ...] | UnsetType = UNSET


class Translation(Struct, frozen=True):
    text: str


class VerboseWord(Struct, frozen=True):
    word: str
    start: float
    end: float


class VerboseSegment(Struct, frozen=True, kw_only=True):
    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: tuple[int, ...]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class VerboseTranscription(Struct, frozen=True, kw_only=True):
    """response_format verbose_json."""

    task: Literal["transcribe", "translate"]
    language: str
    """In English: "english"."""
    duration: float
    text: str
    segments: tuple[VerboseSegment, ...] | UnsetType = UNSET
    words: tuple[VerboseWord, ...] | UnsetType = UNSET
    usage: DurationUsage


class TextDelta(Struct, frozen=True, kw_only=True, tag_field="type", tag="transcript.text.delta"):
    delta: str
    logprobs: tuple[LogProb, ...] | UnsetType = UNSET


class TextSegment(
    Struct, frozen=True, kw_only=True, tag_field="type", tag="transcript.text.segment"
):
    """When the next delta was heard; OpenAI's event of diarized_json, without its speaker."""

    id: str
    """The segment's number in verbose_json."""
    start: float
    """Seconds, as is the end."""
    end: float
    text: str


class TextDone(Struct, frozen=True, kw_only=True, tag_field="type", tag="transcript.text.done"):
    text: str
    languages: tuple[Language, ...] = ()
    usage: TokenUsage
    logprobs: tuple[LogProb, ...] | UnsetType = UNSET


class TranscriptErrorEvent(Struct, frozen=True, tag_field="type", tag="error"):
    """The SDK raises it; the connection is broken off behind it."""

    error: ErrorDetail
