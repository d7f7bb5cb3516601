"""What voices are made of in tests: a recording, a recogniser, an engine that speaks with them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np

from engine.protocol import PromptSource
from engine.types import (
    EngineInfo,
    PcmChunk,
    Samples,
    Segment,
    SpokenWord,
    SynthesisRequest,
    TranscriptInfo,
    VoicePrompt,
)
from server.audio.encoder import encode_whole
from server.tests.fakes import INFO, FakeEngine, FakeListener

TEXT = "The birch canoe slid on the smooth planks."


def recording(
    seconds: float = 4.0, rate: int = 24_000, hz: float = 130.0, harmonics: int = 9
) -> bytes:
    """Something with the pitch, the loudness and the pauses of speech, as wav."""
    t = np.arange(int(seconds * rate)) / rate
    tone = np.sum([np.sin(2 * np.pi * hz * k * t) / k for k in range(1, harmonics + 1)], axis=0)
    envelope = np.clip(np.sin(2 * np.pi * 2 * t), 0, None)
    samples: Samples = (0.15 * tone * envelope).astype(np.float32)
    return encode_whole("wav", samples, rate)


class Listener(FakeListener):
    """Always hears the same words."""

    def __init__(self, text: str = TEXT, *, is_accurate: bool = True) -> None:
        super().__init__("whisper")
        self.text = text
        self.heard_samples = 0
        self.info = EngineInfo(
            name="ears",
            task="transcription",
            sample_rate=16_000,
            languages=("en",),
            is_accurate=is_accurate,
        )

    async def transcribe(self, audio: Any, options: Any, request_id: str) -> Any:
        async for block in audio:
            self.heard_samples += len(block)
        yield TranscriptInfo("en", 0.9)
        if self.text:
            word = SpokenWord(f" {self.text}", 0, 1, 0.8)
            yield Segment(0, 1, f" {self.text}", (word,))


class BusyListener(Listener):
    """Is at its first recording until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.released = threading.Event(), threading.Event()

    async def transcribe(self, audio: Any, options: Any, request_id: str) -> Any:
        self.begun.set()
        assert await asyncio.to_thread(self.released.wait, 10)
        async for part in super().transcribe(audio, options, request_id):
            yield part


class StylishEngine(FakeEngine):
    """Follows a style, or clones: then it asks for each prompt once."""

    def __init__(self, *, clones: bool, honours: tuple[str, ...] = ("style",)) -> None:
        super().__init__()
        self._clones = clones
        self._honours = frozenset(honours)
        self.prompts: dict[str, VoicePrompt] = {}

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(
            name="fake",
            task="speech",
            sample_rate=INFO.sample_rate,
            languages=("en",),
            clones_voices=self._clones,
            honours=self._honours,
        )

    async def ready(self) -> EngineInfo:
        return self.info

    async def synthesize(
        self, request: SynthesisRequest, request_id: str, prompt: PromptSource | None = None
    ) -> AsyncGenerator[PcmChunk, None]:
        if prompt and request.prompt and request.prompt.digest not in self.prompts:
            self.prompts[request.prompt.digest] = await prompt()
        async for chunk in super().synthesize(request, request_id, prompt):
            yield chunk
