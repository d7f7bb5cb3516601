"""What each part of the model takes by itself, in one process, as one line of JSON.

    python -m engine.glm_tts.timing [--device cuda] [--size true|tiny] [--model FOLDER]

Without a folder the weights are made up: their values do not change the pace. Everything is
recorded as a worker records it. A figure is the median of several runs, the host's part included,
in ms; before and after each the device has nothing to do.

    llm_step_ms     by context in tokens, then by batch: a step of a burst
    prefill_ms      by batch: prompts of 200 tokens read, and their first tokens drawn
    flow_ms         by mel frames: a solve of one window; "mix": of eight windows at once
    vocoder_ms_10s  500 mel frames in one window, as a clip's first and last
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import msgspec
import torch
from msgspec import Struct
from torch import Tensor

from engine.config import GlmTtsOptions
from engine.errors import LoadFailed
from engine.glm_tts.decoder import DecodeParams
from engine.glm_tts.flow import FRAMES_PER_TOKEN, FlowInput
from engine.glm_tts.lanes import Lane
from engine.glm_tts.model import Model, load_model
from engine.glm_tts.model_memory import ModelMemory
from engine.glm_tts.renderer import Renderer

_BATCHES = (1, 32, 64)
_CONTEXTS = (300, 600)
_BURST = 16
_MOST_RUNS = 30
"""More would draw more tokens than the shortest context has room for on both its sides."""
_PREFILLS = (1, 8)
"""Batches; no larger one is read at once."""
_PREFILL_TOKENS = 200
_WINDOWS = (274, 400, 650)
"""Mel frames: a first block behind a prompt of 4 s, one later, the longest."""
_MIX = (274, 274, 274, 400, 400, 400, 650, 650)
_PROMPT_FRAMES = 200
_CLIP_FRAMES = 500
_MELS = 80
_SPEAKER = 192


class Timings(Struct, frozen=True):
    """See the module."""

    device: str
    """Its name, as its driver has it; "cpu"."""
    model: str
    llm_step_ms: dict[str, dict[str, float]]
    prefill_ms: dict[str, float]
    flow_ms: dict[str, float]
    vocoder_ms_10s: float


class Stopwatch:
    """Of one kind of work; the first lap does not count.

    Args:
        device: Where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._laps_ms: list[float] = []

    @contextmanager
    def lap(self) -> Generator[None, None, None]:
        """While the work is done."""
        self._wait()
        began = time.perf_counter()
        yield
        self._wait()
        self._laps_ms.append(1000 * (time.perf_counter() - began))

    @property
    def median_ms(self) -> float:
        return round(statistics.median(self._laps_ms[1:]), 4)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


class Timer:
    """Times the parts of a model that is recorded and has no jobs.

    Args:
        model: With as many slots as the largest batch.
        renderer: Of the model.
        runs: That count, of each figure.
    """

    def __init__(self, model: Model, renderer: Renderer, runs: int) -> None:
        self._model = model
        self._renderer = renderer
        self._laps = range(runs + 1)
        self._random = torch.Generator().manual_seed(0)

    def llm_step_ms(self, batch: int, context: int) -> float:
        """Of a step at a context of so many tokens, half-way through all bursts."""
        watch, drawn = Stopwatch(self._model.device), _BURST * len(self._laps)
        slots = [self._admit(context - drawn // 2, drawn) for _ in range(batch)]
        most = _PREFILLS[-1]
        for first in range(0, batch, most):
            self._model.decoder.prefill(slots[first : first + most])
        for _ in self._laps:
            with watch.lap():
                self._model.decoder.step(slots, _BURST)
        self._release(slots)
        return round(watch.median_ms / _BURST, 4)

    def prefill_ms(self, batch: int) -> float:
        watch = Stopwatch(self._model.device)
        for _ in self._laps:
            slots = [self._admit(_PREFILL_TOKENS, 1) for _ in range(batch)]
            with watch.lap():
                self._model.decoder.prefill(slots)
            self._release(slots)
        return watch.median_ms

    def flow_ms(self, windows: Sequence[int]) -> float:
        """Of windows of so many mel frames, solved together in the usual 10 steps."""
        watch = Stopwatch(self._model.device)
        clips = [self._window(frames) for frames in windows]
        for _ in self._laps:
            with watch.lap():
                self._renderer.flow.solve(clips)
        return watch.median_ms

    def vocoder_ms(self, frames: int) -> float:
        watch, vocoder = Stopwatch(self._model.device), self._renderer.vocoder
        mel = self._normal(frames, _MELS)
        for _ in self._laps:
            state = vocoder.begin(seed=0)
            with watch.lap():
                vocoder.vocode([mel], [state], [True])
        return watch.median_ms

    def _admit(self, prompt_tokens: int, tokens: int) -> int:
        ids = self._model.ids
        prompt = self._speech_tokens(prompt_tokens) + ids.first_audio
        params = DecodeParams(seed=0, min_tokens=tokens, max_tokens=tokens)
        return self._model.decoder.admit(prompt.tolist(), params)

    def _release(self, slots: Sequence[int]) -> None:
        for slot in slots:
            self._model.decoder.release(slot)

    def _window(self, frames: int) -> FlowInput:
        return FlowInput(
            tokens=self._speech_tokens(frames // FRAMES_PER_TOKEN).to(self._model.device),
            condition=self._normal(_PROMPT_FRAMES, _MELS),
            speaker=self._normal(_SPEAKER),
            noise=self._normal(frames, _MELS),
        )

    def _speech_tokens(self, count: int) -> Tensor:
        return torch.randint(self._model.ids.audio_tokens, (count,), generator=self._random)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._random).to(self._model.device)


def timings(model: Model, runs: int) -> Timings:
    """Record a model that was just loaded, in lanes as a worker does, and time it."""
    device, memory = model.device, ModelMemory(model.device)
    speech, render = Lane(device, urgency=2), Lane(device)
    memory.adopt(model, visitor=model.prompts)
    with speech.use():
        model.decoder.record(memory.room(speech))
    renderer = Renderer(model, render, render, memory.room(render), [_CLIP_FRAMES], sum(_MIX))
    timer = Timer(model, renderer, runs)
    with speech.use():
        steps = {
            str(context): {str(batch): timer.llm_step_ms(batch, context) for batch in _BATCHES}
            for context in _CONTEXTS
        }
        prefills = {str(batch): timer.prefill_ms(batch) for batch in _PREFILLS}
    with render.use():
        solves = {str(frames): timer.flow_ms([frames]) for frames in _WINDOWS}
        return Timings(
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            model=model.description,
            llm_step_ms=steps,
            prefill_ms=prefills,
            flow_ms={**solves, "mix": timer.flow_ms(_MIX)},
            vocoder_ms_10s=timer.vocoder_ms(_CLIP_FRAMES),
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; see the module."""
    parser = argparse.ArgumentParser(description="Time each part of GLM-TTS by itself.")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--size", default="true", choices=("true", "tiny"), help="if made up")
    parser.add_argument("--model", metavar="FOLDER", help="of a checkpoint")
    parser.add_argument("--runs", type=int, default=7, help="of which a figure is the median")
    chosen = parser.parse_args(arguments)
    if not 1 <= chosen.runs <= _MOST_RUNS:
        parser.error(f"--runs must be within 1 and {_MOST_RUNS}")
    options = GlmTtsOptions(
        model=chosen.model,
        random_weights=0 if chosen.model is None else None,
        size=chosen.size,
        max_batch=_BATCHES[-1],
    )
    try:
        model = load_model(options, chosen.device)
    except LoadFailed as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    found = timings(model, chosen.runs)
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
