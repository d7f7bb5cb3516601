"""An engine in this process, for tests of the server: no worker, no socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import numpy as np

from engine.errors import EngineFault, InvalidRequest, UnknownVoice, WorkerUnavailable
from engine.protocol import PromptSource
from engine.types import (
    EngineInfo,
    EngineStatus,
    PcmChunk,
    Samples,
    Segment,
    SpokenWord,
    SynthesisRequest,
    TranscribeOptions,
    TranscriptInfo,
    VoiceInfo,
    VoicePrompt,
    Word,
)

SAMPLE_RATE = 24_000
CHUNK_SAMPLES = SAMPLE_RATE // 10

INFO = EngineInfo(
    name="fake",
    task="speech",
    sample_rate=SAMPLE_RATE,
    languages=("en",),
    voices=(VoiceInfo("low", "Low", "en"),),
    is_embedded=True,
    speed_range=(0.5, 2.0),
    description="a tone a word",
)


class FakeEngine:
    """Implements `engine.protocol.SpeechEngine`; a tenth of a second of a tone for each word.

    The word "break" fails, the voice "nobody" is unknown, and "silence" alone gives no audio.
    """

    name = "espeak-ng"

    def __init__(self, *, is_up: bool = True, is_absent: bool = False) -> None:
        self.is_up = is_up and not is_absent
        self.is_absent = is_absent
        self.requests: list[SynthesisRequest] = []
        self.prepared: list[VoicePrompt] = []
        self.open_streams = 0

    @property
    def info(self) -> EngineInfo | None:
        return INFO if self.is_up else None

    @property
    def status(self) -> EngineStatus:
        return EngineStatus(
            state="ready" if self.is_up else "absent" if self.is_absent else "starting",
            workers=int(self.is_up),
            jobs=self.open_streams,
            restarts=0,
        )

    async def ready(self) -> EngineInfo:
        if not self.is_up:
            raise WorkerUnavailable("fake is not ready", retry_after_s=1.5)
        return INFO

    async def prepare(self, prompt: VoicePrompt, request_id: str) -> None:
        self.prepared.append(prompt)

    async def synthesize(
        self, request: SynthesisRequest, request_id: str, prompt: PromptSource | None = None
    ) -> AsyncGenerator[PcmChunk, None]:
        self.requests.append(request)
        self.open_streams += 1
        try:
            if request.voice == "nobody":
                raise UnknownVoice("no voice 'nobody'")
            words = request.text.split()
            for index, word in enumerate(words):
                if word == "break":
                    raise EngineFault("the engine broke")
                if word != "silence":
                    begun = (Word(word, index / 10),)
                    yield PcmChunk(tone(), begun, 0.001, (index + 1) / len(words))
        finally:
            self.open_streams -= 1


def tone() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Float32 [2400], 440 Hz at 24 kHz."""
    t = np.arange(CHUNK_SAMPLES, dtype=np.float32) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)


class FakeListener:
    """Implements `engine.protocol.TranscriptionEngine`; a word for each second of the recording.

    A recording of three seconds or more breaks off after its second word if `breaks`.
    """

    info: EngineInfo | None = EngineInfo(
        name="fake-listener",
        task="transcription",
        sample_rate=16_000,
        languages=("en",),
        is_accurate=False,
    )

    def __init__(
        self, name: str = "pocketsphinx", *, breaks: bool = False, is_absent: bool = False
    ) -> None:
        self.name = name
        self.breaks = breaks
        self.is_absent = is_absent
        self.options: list[TranscribeOptions] = []
        self.open_jobs = 0

    @property
    def status(self) -> EngineStatus:
        return EngineStatus(
            state="absent" if self.is_absent else "ready",
            workers=int(not self.is_absent),
            jobs=self.open_jobs,
            restarts=0,
            error="no model: fetch one" if self.is_absent else None,
        )

    async def ready(self) -> EngineInfo:
        if self.is_absent:
            raise WorkerUnavailable("no model: fetch one", retry_after_s=2.0)
        assert self.info is not None
        return self.info

    async def transcribe(
        self, audio: AsyncGenerator[Samples, None], options: TranscribeOptions, request_id: str
    ) -> AsyncGenerator[TranscriptInfo | Segment, None]:
        self.options.append(options)
        self.open_jobs += 1
        try:
            if options.language not in (None, "en"):
                raise InvalidRequest("only English is understood", "language")
            yield TranscriptInfo("en", 1.0)
            samples = 0
            async for block in audio:
                samples += len(block)
            for second in range(samples // 16_000):
                if self.breaks and second == 2:
                    raise EngineFault("the engine broke")
                yield self._segment(second, options)
        finally:
            self.open_jobs -= 1

    def _segment(self, second: int, options: TranscribeOptions) -> Segment:
        text = f" w{second}"
        words = (SpokenWord(text, second, second + 0.5, 0.5),) if options.with_words else ()
        return Segment(second, second + 1, text, words, tokens=(second,), avg_logprob=-0.5)
