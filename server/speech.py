"""One speech request: what to ask of the engine, and how its audio becomes the answer's bytes."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from contextlib import aclosing
from math import ceil

import numpy as np
from msgspec import Struct

from engine.errors import EngineFault
from engine.types import EngineInfo, PcmChunk, Sampling, SynthesisRequest, Word
from server.audio.encoder import create_encoder, encode_whole
from server.audio.formats import DEFAULT_SAMPLE_RATE, FORMATS, ResponseFormat
from server.audio.shaper import Shaper
from server.errors import ApiError, as_api_error, detail_of
from server.library import SpeakingVoice
from server.meters import SpeechMeter
from server.schemas.speech import (
    AudioDelta,
    AudioDone,
    SpeechErrorEvent,
    SpeechRequest,
    SpeechUsage,
    WordTime,
    WordTimes,
)
from server.streaming import EncodedChunk, encode_chunks, sse

_FRAMES_PER_S = 50
"""Usage counts audio in frames of 20 ms."""

_UNCOMPRESSED = ("pcm", "wav")
"""Formats that cost microseconds: not worth a thread."""


class SpeechPlan(Struct, frozen=True, kw_only=True):
    """What to ask of the engine, and how to give what it says."""

    request: SynthesisRequest
    engine_rate: int
    """Hz, of the engine's PCM."""
    tempo: float
    """What the engine leaves to do of the speed asked for."""
    response_format: ResponseFormat
    sample_rate: int
    """Hz, of the answer."""
    with_words: bool = False
    """Events tell the words' times."""

    @property
    def media_type(self) -> str:
        return FORMATS[self.response_format].media_type

    def shaper(self) -> Shaper:
        return Shaper(self.engine_rate, self.sample_rate, self.tempo)


def plan_speech(
    body: SpeechRequest, info: EngineInfo, voice: SpeakingVoice, input_chars: int
) -> SpeechPlan:
    """Check what the schema cannot, and divide the work between engine and server.

    Args:
        body: Valid by its schema.
        info: Of the engine that will speak.
        voice: As the library resolved it.
        input_chars: Code points of input at most.
    Raises:
        ApiError: 400; `param` names the field.
    """
    response_format = body.response_format or "mp3"
    sample_rate = body.sample_rate or DEFAULT_SAMPLE_RATE
    _check_input(body.input, input_chars)
    if sample_rate not in (rates := FORMATS[response_format].sample_rates):
        message = f"{response_format} can be had at {', '.join(map(str, rates))} Hz"
        raise ApiError(400, f"sample_rate: {message}", param="sample_rate", code="invalid_value")
    speed = 1.0 if body.speed is None else body.speed
    slowest, fastest = info.speed_range
    engine_speed = min(max(speed, slowest), fastest)
    return SpeechPlan(
        request=SynthesisRequest(
            text=body.input,
            voice=voice.engine_voice,
            language=body.language or voice.language,
            speed=engine_speed,
            seed=body.seed,
            sampling=Sampling(
                strategy=body.strategy or body.sampling_strategy,
                temperature=body.temperature,
                top_p=body.top_p,
                top_k=body.top_k,
            ),
            instructions=body.instructions,
            style=voice.style,
            prompt=voice.prompt,
        ),
        engine_rate=info.sample_rate,
        tempo=speed / engine_speed,
        response_format=response_format,
        sample_rate=sample_rate,
        with_words=bool(body.timestamp_granularities),
    )


def stream_encoded(
    plan: SpeechPlan, chunks: AsyncGenerator[PcmChunk, None], threads: Executor
) -> AsyncGenerator[EncodedChunk, None]:
    """The answer's bytes as the engine speaks."""
    encoder = create_encoder(plan.response_format, plan.sample_rate)
    # Stretching costs four times what resampling does: one stream would hold up all the others.
    is_cheap = plan.response_format in _UNCOMPRESSED and plan.tempo == 1.0
    executor = None if is_cheap else threads
    return encode_chunks(chunks, plan.shaper(), encoder, executor)


async def encode_clip(
    plan: SpeechPlan, chunks: AsyncGenerator[PcmChunk, None], threads: Executor
) -> bytes:
    """The whole clip as one file, whose header states its length where the format has a place.

    Raises:
        EngineFault: the engine ended without having spoken.
    """
    shaper = plan.shaper()
    async with aclosing(chunks):
        parts = [shaper.push(chunk.samples) async for chunk in chunks]
    parts.append(shaper.flush())

    def encode() -> bytes:
        return encode_whole(plan.response_format, np.concatenate(parts), plan.sample_rate)

    if not any(map(len, parts)):
        raise EngineFault("the engine gave no audio")
    return await asyncio.get_running_loop().run_in_executor(threads, encode)


async def as_bytes(
    encoded: AsyncGenerator[EncodedChunk, None], meter: SpeechMeter
) -> AsyncGenerator[bytes, None]:
    """The stream as it is."""
    async with aclosing(encoded):
        async for chunk in encoded:
            if chunk.data:
                meter.sent(chunk.data)
                yield chunk.data


async def as_events(
    encoded: AsyncGenerator[EncodedChunk, None], meter: SpeechMeter, plan: SpeechPlan
) -> AsyncGenerator[bytes, None]:
    """The stream as server-sent events; a failure is one too, and breaks the stream off."""
    async with aclosing(encoded):
        try:
            async for chunk in encoded:
                meter.sent(chunk.data)
                if plan.with_words and chunk.words:
                    yield sse(_word_times(chunk.words, plan.tempo))
                if chunk.data:
                    yield sse(_delta(chunk))
        except Exception as exc:
            # Before the first event this is not seen: the error becomes the answer instead.
            if meter.has_sent:
                yield sse(SpeechErrorEvent(detail_of(as_api_error(exc))))
            raise
    yield sse(AudioDone(_usage(plan.request.text, meter.played_s), meter.figures))


def _check_input(text: str, limit: int) -> None:
    if not text.strip():
        raise ApiError(400, "input: there is nothing to speak", param="input", code="empty_input")
    if len(text) > limit:
        # The second half are the words that OpenAI's own answer is recognised by.
        message = (
            f"input: {len(text)} characters are too many; "
            f"string_too_long: String should have at most {limit} characters"
        )
        raise ApiError(400, message, param="input", code="string_above_max_length")


def _delta(chunk: EncodedChunk) -> AudioDelta:
    progress = None if chunk.progress is None else round(chunk.progress, 4)
    return AudioDelta(b64encode(chunk.data).decode(), progress)


def _word_times(words: tuple[Word, ...], tempo: float) -> WordTimes:
    return WordTimes(tuple(WordTime(w.text, round(w.start_s / tempo, 3)) for w in words))


def _usage(text: str, audio_s: float) -> SpeechUsage:
    frames = ceil(audio_s * _FRAMES_PER_S)
    return SpeechUsage(len(text), frames, len(text) + frames)
