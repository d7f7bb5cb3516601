"""An engine for tests: each word of the text becomes a tenth of a second of a tone.

Two stages: "decode" takes a turn for each word and gives nothing, "render" gives a word's audio.
Some words do more: see `ToneSynthesizer.step` and `start`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.errors import InvalidRequest, LoadFailed, UnknownVoice
from engine.protocol import Emit
from engine.types import (
    Device,
    DeviceMemory,
    EngineInfo,
    Job,
    PromptFeatures,
    Samples,
    StepOutput,
    SynthesisRequest,
    VoiceInfo,
    VoicePrompt,
    Word,
)

SAMPLE_RATE = 24_000
WORD_S = 0.1


class ToneJob(Job):
    def __init__(self, job_id: int, words: list[str], loudness: float) -> None:
        super().__init__(job_id, "decode")
        self.loudness = loudness
        self.words = words
        self.done = 0


class ToneSynthesizer:
    """Implements `engine.protocol.Synthesizer`.

    Args:
        options: `fail_load`: a message to fail `load` with. `clones`: prompts are taken, and the
            loudness of a prompt is that of the speech.
    """

    def __init__(self, options: dict[str, str]) -> None:
        self._fail_load = options.get("fail_load")
        self._clones = bool(options.get("clones"))
        self.prepared: list[str] = []
        self.steps: list[tuple[str, list[int]]] = []
        self.finished: list[int] = []

    def load(self, device: Device) -> EngineInfo:
        if self._fail_load:
            raise LoadFailed(self._fail_load)
        return EngineInfo(
            name="tone",
            task="speech",
            sample_rate=SAMPLE_RATE,
            languages=("en",),
            voices=(VoiceInfo("low", "Low", "en"),),
            clones_voices=self._clones,
            revision="r1",
            description=f"tones on {device}",
        )

    def prepare(self, prompt: VoicePrompt) -> PromptFeatures:
        """A prompt whose text is "refuse" cannot be cloned."""
        if prompt.text == "refuse":
            raise InvalidRequest("prompt: no voice in it", "voice")
        self.prepared.append(prompt.digest)
        loudness = np.abs(np.frombuffer(prompt.samples, np.float32)).max()
        return PromptFeatures({"loudness": np.array([loudness])})

    def start(
        self, job_id: int, request: SynthesisRequest, features: PromptFeatures | None = None
    ) -> ToneJob:
        """ "nobody" is a voice that does not exist, "refuse" a text that cannot be spoken."""
        if request.voice == "nobody":
            raise UnknownVoice("no voice 'nobody'")
        if request.text == "refuse":
            raise InvalidRequest("input: cannot be spoken", "input")
        loudness = float(features.arrays["loudness"][0]) if features else 0.5
        return ToneJob(job_id, request.text.split(), loudness)

    def max_batch(self, stage: str) -> int:
        return 4 if stage == "decode" else 2

    def step(self, stage: str, jobs: Sequence[Job], emit: Emit) -> None:
        """The word "die" kills the process; "break" is a bug in the engine."""
        self.steps.append((stage, [job.id for job in jobs]))
        for job in jobs:
            assert isinstance(job, ToneJob)
            if stage == "decode":
                job.stage = "render"
                continue
            word = job.words[job.done]
            if word == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if word == "break":
                raise RuntimeError("a bug")
            begun = (Word(word, job.done * WORD_S),)
            progress = (job.done + 1) / len(job.words)
            emit(StepOutput(job.id, tone(job.done, job.loudness), begun, progress))
            job.done += 1
            job.stage = "decode" if job.done < len(job.words) else None

    def finish(self, job: Job) -> None:
        self.finished.append(job.id)


class MovableTone(ToneSynthesizer):
    """A tone engine that takes room on a device, and implements `engine.protocol.Residency` too.

    Args:
        options: `bytes`: that it takes while it is resident. `gate`: a file without which it does
            not get off its device. `fail_restore`: it cannot come back.
    """

    def __init__(self, options: dict[str, str]) -> None:
        super().__init__(options)
        self._bytes = int(options.get("bytes", "1000"))
        self._gate = Path(options["gate"]) if "gate" in options else None
        self._fail_restore = bool(options.get("fail_restore"))
        self.is_resident = True

    def load(self, device: Device) -> EngineInfo:
        self._device = device
        return super().load(device)

    def step(self, stage: str, jobs: Sequence[Job], emit: Emit) -> None:
        assert self.is_resident
        super().step(stage, jobs, emit)

    def offload(self) -> None:
        assert self.is_resident
        while self._gate is not None and not self._gate.exists():
            os.sched_yield()
        self.is_resident = False

    def restore(self) -> None:
        assert not self.is_resident
        if self._fail_restore:
            raise MemoryError("the device is full")
        self.is_resident = True

    def memory(self) -> DeviceMemory:
        used_bytes = self._bytes if self.is_resident else 10
        return DeviceMemory(self._device, used_bytes, 10_000, 10_000 - used_bytes)


def tone(index: int, loudness: float = 0.5) -> Samples:
    """The audio of a text's word at `index`, float32 [2400]."""
    t = np.arange(int(WORD_S * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    return (loudness * np.sin(2 * np.pi * (220 + 20 * (index % 20)) * t)).astype(np.float32)
