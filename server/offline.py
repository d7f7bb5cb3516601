"""What the command line does without a server: the same path as a request, in this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from typing import BinaryIO

import msgspec

from engine.errors import UnknownVoice
from server.app import create_pools
from server.catalog import Catalog
from server.errors import ApiError
from server.schemas.speech import SpeechRequest
from server.settings import Settings
from server.speech import plan_speech, stream_encoded
from server.validation import explain


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
        path, message = explain(exc)
        raise ApiError(400, f"{path}: {message}", param=path) from exc
    async with running_catalog(settings) as catalog:
        engine = catalog.engine(body.model)
        info = await engine.ready()
        voice = catalog.engine_voice(engine.name, body.voice_name)
        plan = plan_speech(body, info, voice, settings.limits.input_chars)
        chunks = engine.synthesize(plan.request, "cli")
        with ThreadPoolExecutor(1) as threads:
            try:
                async with aclosing(stream_encoded(plan, chunks, threads)) as encoded:
                    async for chunk in encoded:
                        file.write(chunk.data)
            except UnknownVoice as exc:
                raise catalog.unknown_voice(engine.name, body.voice_name) from exc


async def loaded_catalog(settings: Settings) -> Catalog:
    """The catalog once every engine has said what it can do."""
    async with running_catalog(settings) as catalog:
        for engine in catalog.engines.values():
            await engine.ready()
        return catalog


@asynccontextmanager
async def running_catalog(settings: Settings) -> AsyncGenerator[Catalog, None]:
    """The engines, running for as long as the block lasts."""
    pools = create_pools(settings)
    for pool in pools.values():
        pool.start()
    try:
        yield Catalog(settings, pools)
    finally:
        for pool in pools.values():
            await pool.stop()
