"""One transcription: what to ask of the engine, and how its segments become the answer."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Literal

import msgspec
from litestar import MediaType
from litestar.datastructures import FormMultiDict
from msgspec import UNSET, Struct, UnsetType

from engine.types import Segment, SpeechDetection, TranscribeOptions, TranscriptInfo
from server.errors import ApiError, as_api_error, detail_of
from server.formatters import as_srt, as_text, as_vtt
from server.forms import list_of, object_of, text_of
from server.languages import language_code, language_name
from server.recording import Recording
from server.schemas.body import refusal
from server.schemas.transcription import (
    DurationUsage,
    Language,
    LogProb,
    ServerVad,
    TextDelta,
    TextDone,
    TextSegment,
    TokenDetails,
    TokenUsage,
    TranscriptErrorEvent,
    Transcription,
    TranscriptionRequest,
    Translation,
    VerboseSegment,
    VerboseTranscription,
    VerboseWord,
)
from server.streaming import sse

Task = Literal["transcribe", "translate"]

_AUDIO_TOKENS_PER_S = 10


class Transcript(Struct, frozen=True, kw_only=True):
    """All of it."""

    task: Task
    info: TranscriptInfo
    segments: tuple[Segment, ...]
    duration_s: float

    @property
    def text(self) -> str:
        """Begins and ends without white space, as does what the deltas of a stream join to."""
        return "".join(segment.text.rstrip() for segment in self.segments).lstrip()


async def collect(
    task: Task,
    recording: Recording,
    parts: AsyncGenerator[TranscriptInfo | Segment, None],
    on_segment: Callable[[Segment], None] | None = None,
) -> Transcript:
    """Wait for the whole of it.

    Args:
        task: What the engine was asked for.
        recording: The one that it reads.
        parts: Of the engine; closed in any case.
        on_segment: Told each segment as it is found.
    """
    segments: list[Segment] = []
    async with aclosing(parts):
        info = await anext(parts)
        assert isinstance(info, TranscriptInfo), "the info comes first"
        async for part in parts:
            if isinstance(part, Segment):
                segments.append(part)
                if on_segment is not None:
                    on_segment(part)
    return Transcript(
        task=task, info=info, segments=tuple(segments), duration_s=recording.duration_s
    )


def parse_request(form: FormMultiDict) -> TranscriptionRequest:
    """Read the fields from the form.

    Raises:
        ApiError: 400; `param` names the field.
    """
    words = ("model", "language", "prompt", "response_format", "temperature", "stream")
    fields: dict[str, object] = {name: text_of(form, name) for name in words}
    for name in ("languages", "keywords", "timestamp_granularities", "include"):
        fields[name] = list_of(form, name)
    for name in ("known_speaker_names", "known_speaker_references"):
        fields[name] = list_of(form, name, may_hold_commas=True)
    fields["chunking_strategy"] = object_of(form, "chunking_strategy")
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        body = msgspec.convert(given, TranscriptionRequest, strict=False)
    except msgspec.ValidationError as exc:
        raise refusal(exc) from exc
    _check_speakers(body)
    return body


def engine_options(body: TranscriptionRequest, task: Task) -> TranscribeOptions:
    """What to ask of the engine.

    Raises:
        ApiError: 400, no such language.
    """
    asked = body.language or (body.languages[0] if len(body.languages) == 1 else None)
    language = language_code(asked) if asked else None
    if asked and language is None:
        message = f"language: {asked[:100]!r} is not a language that is known here"
        raise ApiError(400, message, param="language", code="invalid_value")
    detection = None
    if isinstance(vad := body.chunking_strategy, ServerVad):
        detection = SpeechDetection(
            threshold=vad.threshold,
            padding_s=vad.prefix_padding_ms / 1000,
            min_silence_s=vad.silence_duration_ms / 1000,
        )
    return TranscribeOptions(
        task=task,
        language=language,
        prompt=body.prompt,
        keywords=body.keywords,
        temperature=body.temperature or 0.0,
        with_words="word" in body.timestamp_granularities or bool(body.include),
        is_live=bool(body.stream),
        detection=detection,
    )


def as_json(transcript: Transcript, body: TranscriptionRequest) -> Transcription | Translation:
    """response_format json."""
    if transcript.task == "translate":
        return Translation(transcript.text)
    return Transcription(
        text=transcript.text,
        languages=_languages(transcript.info, transcript.segments),
        usage=_duration_usage(transcript.duration_s),
        logprobs=_logprobs(transcript.segments) if body.include else UNSET,
    )


def as_verbose(transcript: Transcript, body: TranscriptionRequest) -> VerboseTranscription:
    """response_format verbose_json."""
    granularities = body.timestamp_granularities or ("segment",)
    english = transcript.task == "translate"
    return VerboseTranscription(
        task=transcript.task,
        language="english" if english else language_name(transcript.info.language),
        duration=round(transcript.duration_s, 3),
        text=transcript.text,
        segments=_verbose_segments(transcript.segments) if "segment" in granularities else UNSET,
        words=_verbose_words(transcript.segments) if "word" in granularities else UNSET,
        usage=_duration_usage(transcript.duration_s),
    )


def whole(transcript: Transcript, body: TranscriptionRequest) -> tuple[bytes, str]:
    """The answer's body and its media type."""
    match body.response_format:
        case "text":
            return as_text(transcript.segments).encode(), MediaType.TEXT
        case "srt":
            return as_srt(transcript.segments).encode(), MediaType.TEXT
        case "vtt":
            return as_vtt(transcript.segments).encode(), MediaType.TEXT
        case "verbose_json":
            return msgspec.json.encode(as_verbose(transcript, body)), MediaType.JSON
        case _:
            return msgspec.json.encode(as_json(transcript, body)), MediaType.JSON


class TranscriptEvents:
    """Server-sent events of a transcript: deltas as segments are found, then the whole.

    Args:
        body: What was asked for.
    """

    def __init__(self, body: TranscriptionRequest) -> None:
        self._with_logprobs = bool(body.include)
        self._with_segments = "segment" in body.timestamp_granularities
        self._segments: list[Segment] = []
        self._text = ""

    def delta(self, segment: Segment) -> bytes:
        """What this segment adds, behind its times if they were asked for; nothing without text."""
        self._segments.append(segment)
        piece = segment.text.rstrip()
        if not self._text:
            piece = piece.lstrip()
        if not piece:
            return b""
        self._text += piece
        delta = sse(TextDelta(delta=piece, logprobs=self._logprobs((segment,))))
        return self._times(segment) + delta if self._with_segments else delta

    def done(self, info: TranscriptInfo, duration_s: float) -> bytes:
        return sse(
            TextDone(
                text=self._text,
                languages=_languages(info, self._segments),
                usage=_token_usage(self._segments, duration_s),
                logprobs=self._logprobs(self._segments),
            )
        )

    def _times(self, segment: Segment) -> bytes:
        number = len(self._segments) - 1
        start, end = round(segment.start_s, 3), round(segment.end_s, 3)
        return sse(TextSegment(id=str(number), start=start, end=end, text=segment.text))

    def _logprobs(self, segments: Iterable[Segment]) -> tuple[LogProb, ...] | UnsetType:
        return _logprobs(segments) if self._with_logprobs else UNSET


def error_event(error: Exception) -> bytes:
    """The event that the SDK raises as an APIError."""
    return sse(TranscriptErrorEvent(detail_of(as_api_error(error))))


def _verbose_segments(segments: Sequence[Segment]) -> tuple[VerboseSegment, ...]:
    return tuple(
        VerboseSegment(
            id=number,
            seek=segment.seek,
            start=round(segment.start_s, 3),
            end=round(segment.end_s, 3),
            text=segment.text,
            tokens=segment.tokens,
            temperature=segment.temperature,
            avg_logprob=segment.avg_logprob,
            compression_ratio=segment.compression_ratio,
            no_speech_prob=segment.no_speech_prob,
        )
        for number, segment in enumerate(segments)
    )


def _verbose_words(segments: Sequence[Segment]) -> tuple[VerboseWord, ...]:
    return tuple(
        VerboseWord(word.text.strip(), round(word.start_s, 3), round(word.end_s, 3))
        for segment in segments
        for word in segment.words
    )


def _logprobs(segments: Iterable[Segment]) -> tuple[LogProb, ...]:
    return tuple(
        LogProb(word.text, math.log(max(word.probability, 1e-9)), tuple(word.text.encode()))
        for segment in segments
        for word in segment.words
    )


def _languages(info: TranscriptInfo, segments: Sequence[Segment]) -> tuple[Language, ...]:
    """None where nothing was said: then nothing is known."""
    return (Language(info.language),) if segments else ()


def _duration_usage(duration_s: float) -> DurationUsage:
    return DurationUsage(math.ceil(duration_s))


def _token_usage(segments: Sequence[Segment], duration_s: float) -> TokenUsage:
    heard = math.ceil(duration_s * _AUDIO_TOKENS_PER_S)
    written = sum(len(each.tokens) or len(each.text.split()) for each in segments)
    return TokenUsage(heard, written, heard + written, TokenDetails(0, heard))


def _check_speakers(body: TranscriptionRequest) -> None:
    if body.response_format == "diarized_json":
        message = "response_format: diarized_json needs an engine that tells speakers apart"
        raise ApiError(400, message, param="response_format", code="unsupported_value")
    if len(body.known_speaker_names) != len(body.known_speaker_references):
        message = "known_speaker_names and known_speaker_references must be as many"
        raise ApiError(400, message, param="known_speaker_names", code="invalid_value")
