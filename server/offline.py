"""What the command line does without a server: the same path as a request, in this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

import msgspec

from engine.errors import UnknownVoice, WorkerUnavailable
from engine.types import EngineInfo, Segment, Task
from server.app import create_library, create_pools, pools_of
from server.catalog import Catalog, Engines
from server.decoders import Decoders
from server.recording import Recording
from server.schemas.body import refusal
from server.schemas.speech import SpeechRequest
from server.schemas.transcription import TranscriptionRequest
from server.settings import Settings
from server.speech import plan_speech, stream_encoded
from server.transcription import collect, engine_options, whole


async def speak_to(
    file: BinaryIO, settings: Settings, text: str, options: dict[str, object]
) -> None:
    """Write a text's speech as it is made.

    Args:
        file: Open for writing; need not seek.
        settings: Checked.
        text: What to say.
        options: The other fields of a SpeechRequest.
    Raises:
        ApiError: what a request would be answered with.
        EngineError: likewise.
    """
    try:
        body = msgspec.convert({**options, "input": text}, SpeechRequest)
    except msgspec.ValidationError as exc:
        raise refusal(exc) from exc
    async with running_catalog(settings, "speech") as catalog:
        engine = catalog.speech_engine(body.model)
        info = await engine.ready()
        with ThreadPoolExecutor(1) as threads:
            library = create_library(settings, catalog, threads)
            voice = await library.resolve(body.voice_name, None, engine.name, info)
            plan = plan_speech(body, info, voice, settings.limits.input_chars)
            source = partial(library.prompt_of, voice.profile) if voice.profile else None
            chunks = engine.synthesize(plan.request, "cli", source)
            try:
                async with aclosing(stream_encoded(plan, chunks, threads)) as encoded:
                    async for chunk in encoded:
                        file.write(chunk.data)
            except UnknownVoice as exc:
                raise catalog.unknown_voice(engine.name, body.voice_name) from exc


async def transcribe_file(
    path: Path,
    catalog: Catalog,
    decoders: Decoders,
    settings: Settings,
    body: TranscriptionRequest,
    on_progress: Callable[[float, float | None], None],
) -> tuple[str, EngineInfo]:
    """The transcript of a file in the format asked for, and the engine that wrote it.

    Args:
        path: Audio, or a video.
        catalog: Of engines that run.
        decoders: Where it is decoded.
        settings: Checked.
        body: What a request would say.
        on_progress: Told seconds transcribed and, once it is known, the recording's duration.
    Raises:
        ApiError: what a request would be answered with.
        EngineError, DecodeError: likewise.
    """
    engine = catalog.transcription_engine(body.model)
    info = await engine.ready()
    with path.open("rb") as file:
        recording = Recording(file, info.sample_rate, settings.limits.decode, decoders)
        await recording.open()
        parts = engine.transcribe(recording.blocks(), engine_options(body, "transcribe"), "cli")

        def progress(segment: Segment) -> None:
            on_progress(segment.end_s, recording.duration_s if recording.is_read else None)

        transcript = await collect("transcribe", recording, parts, progress)
    return whole(transcript, body)[0].decode(), info


async def loaded_catalog(settings: Settings, *tasks: Task) -> Catalog:
    """The catalog once every engine has said what it can do."""
    async with running_catalog(settings, *tasks) as catalog:
        for engine in catalog.engines.all().values():
            with suppress(WorkerUnavailable):  # the catalogue says what it lacks
                await engine.ready()
        return catalog


@asynccontextmanager
async def running_catalog(settings: Settings, *tasks: Task) -> AsyncGenerator[Catalog, None]:
    """The engines for these tasks (none: for all), running for as long as the block lasts."""
    every = create_pools(settings)
    engines = Engines(
        every.speech if not tasks or "speech" in tasks else {},
        every.transcription if not tasks or "transcription" in tasks else {},
    )
    pools = pools_of(engines)
    for pool in pools:
        pool.start()
    try:
        yield Catalog(settings, engines)
    finally:
        for pool in pools:
            await pool.stop()
