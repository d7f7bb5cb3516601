"""An engine in this process, for tests of the server: no worker, no socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import numpy as np

from engine.errors import EngineFault, UnknownVoice, WorkerUnavailable
from engine.types import EngineInfo, EngineStatus, PcmChunk, SynthesisRequest, VoiceInfo, Word

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

    def __init__(self, *, is_up: bool = True) -> None:
        self.is_up = is_up
        self.requests: list[SynthesisRequest] = []
        self.open_streams = 0

    @property
    def info(self) -> EngineInfo | None:
        return INFO if self.is_up else None

    @property
    def status(self) -> EngineStatus:
        state = "ready" if self.is_up else "starting"
        return EngineStatus(
            state="ready" if state == "ready" else "starting",
            workers=int(self.is_up),
            jobs=self.open_streams,
            restarts=0,
        )

    async def ready(self) -> EngineInfo:
        if not self.is_up:
            raise WorkerUnavailable("fake is not ready", retry_after_s=1.5)
        return INFO

    async def synthesize(
        self, request: SynthesisRequest, request_id: str
    ) -> AsyncGenerator[PcmChunk, None]:
        self.requests.append(request)
        self.open_streams += 1
        try:
            if request.voice == "nobody":
                raise UnknownVoice("no voice 'nobody'")
            for index, word in enumerate(request.text.split()):
                if word == "break":
                    raise EngineFault("the engine broke")
                if word != "silence":
                    yield PcmChunk(tone(), (Word(word, index / 10),), compute_s=0.001)
        finally:
            self.open_streams -= 1


def tone() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Float32 [2400], 440 Hz at 24 kHz."""
    t = np.arange(CHUNK_SAMPLES, dtype=np.float32) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
