"""GLM-TTS as the runtime sees it: prefill -> decode -> render, each in batches.

```
admit, prefill   the language model reads [prompt text, text, prompt speech]
decode           one speech token a job and step, until a block is full
first, render    the block's tokens -> mel (flow) -> audio (vocoder), begun and left to the device
(land)           the audio is there -> emit
```
While a block is rendered its job decodes the next, but for the first: that one is to be heard soon.
So it is rendered beside the others' blocks, in a lane of its own, and waits for none of them.
A long text is spoken piece by piece; each begins at prefill, in a slot of the decoder.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from engine.config import GlmTtsOptions
from engine.errors import InvalidRequest, UnknownVoice
from engine.glm_tts.decoder import DecodeParams
from engine.glm_tts.faults import translated
from engine.glm_tts.guards import SilenceRun
from engine.glm_tts.history import History
from engine.glm_tts.job import GlmTtsJob, Piece
from engine.glm_tts.lanes import Lane
from engine.glm_tts.model import Model, load_model
from engine.glm_tts.model_memory import ModelMemory
from engine.glm_tts.presets import preset_of
from engine.glm_tts.renderer import Flight, Renderer
from engine.glm_tts.sampling import K_MAX
from engine.glm_tts.stream import BlockPlan, MelStream, Voice
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
    VoicePrompt,
)

_BURST = 4
"""Tokens drawn before the host looks at them: the device need not wait for it in between. What is
drawn beyond a speech's end is thrown away, and a job that comes waits a little longer."""

_PREFILLS = 8
"""Prompts read in one step: more would keep the streams that play waiting."""

_RENDERS = 16
"""Blocks rendered at once, at most."""
_FRAMES = {"first": 1100, "render": 4096}
"""Mel frames that they may have together: more take longer, but hardly less each. A first block of
more is rendered with the others."""


class GlmTts:
    """Implements `engine.protocol.Cloner`, `Overlapping` and `Residency`.

    Args:
        options: See there.
    """

    def __init__(self, options: GlmTtsOptions) -> None:
        self._options = options
        self._model: Model | None = None
        self._flights: dict[str, Flight] = {}
        """What the device renders, by its stage."""

    @property
    def model(self) -> Model:
        assert self._model is not None, "not loaded"
        return self._model

    def load(self, device: Device) -> EngineInfo:
        self._model = model = load_model(self._options, device)
        self._plan = BlockPlan.of(self._options, model.rates)
        self._memory = ModelMemory(model.device)
        self._memory.adopt(model, visitor=model.prompts)
        self._lane = Lane(model.device, urgency=2)
        with self._lane.use():
            model.decoder.record(self._memory.room(self._lane))
        first, *others = self._windows()
        self._renderers = {
            "first": self._renderer(1, [first], _FRAMES["first"]),
            "render": self._renderer(0, [first, *others], _FRAMES["render"]),
        }
        return EngineInfo(
            name="glm-tts",
            task="speech",
            sample_rate=model.rates.sample_rate,
            languages=("zh", "en"),
            clones_voices=True,
            revision=model.revision,
            refuses_overload=True,
            honours=frozenset({"seed", "strategy", "temperature", "top_p", "top_k"}),
            description=model.description,
        )

    def _renderer(self, urgency: int, windows: Sequence[int], frames: int) -> Renderer:
        lane = Lane(self.model.device, urgency=urgency)
        return Renderer(self.model, lane, self._memory.room(lane), windows, frames)

    def offload(self) -> None:
        self.model.decoder.forget_slots()
        self._memory.offload()

    def restore(self) -> None:
        self._memory.restore()

    def memory(self) -> DeviceMemory | None:
        return self._memory.memory()

    def _windows(self) -> list[int]:
        """Mel frames that the vocoder is given at once, by the plan."""
        per_token = self.model.rates.mel_hz // self.model.rates.token_hz
        context, hold = self.model.vocoder.context_frames, self.model.vocoder.hold_frames
        first, *others = (per_token * tokens for tokens in self._plan.blocks)
        return [first, *(frames + context + hold for frames in others)]

    @translated()
    @torch.inference_mode()
    def prepare(self, prompt: VoicePrompt) -> PromptFeatures:
        with self._memory.visit():
            return self.model.prompts.encode(prompt)

    @translated()
    def start(
        self, job_id: int, request: SynthesisRequest, features: PromptFeatures | None = None
    ) -> GlmTtsJob:
        if features is None or request.prompt is None:
            raise UnknownVoice("GLM-TTS speaks with stored voices only: add one, or send ref_audio")
        model = self.model
        texts = [model.tokenizer.encode(text) for text in model.text.pieces(request.text)]
        if not texts:
            raise InvalidRequest("input: there is nothing in it to speak", "input")
        if (preset := preset_of(request.sampling)).top_k > K_MAX:
            raise InvalidRequest(f"top_k must be {K_MAX} or less for GLM-TTS", "top_k")
        prompt_text = model.tokenizer.encode(model.text.prompt(request.prompt.text))
        with self._renderers["first"].lane.use():
            voice = _on_device(features, model.device)
        job = GlmTtsJob(
            job_id,
            texts,
            voice,
            History(prompt_text, features.arrays["speech_tokens"].tolist()),
            preset,
            secrets.randbits(31) if request.seed is None else request.seed,
        )
        longest = max(texts, key=len)
        if self._room(self._prompt_ids(job, longest)) <= self._least(longest):
            context = self._options.context_tokens
            raise InvalidRequest(
                f"voice: its recording leaves no room for speech among {context} tokens", "voice"
            )
        return job

    def max_batch(self, stage: str) -> int:
        match stage:
            case "admit":
                return min(_PREFILLS, self.model.decoder.free_slots)
            case "prefill":
                return _PREFILLS
            case "decode":
                return self.model.max_batch
            case "first" | "render" if stage not in self._flights:
                return min(_RENDERS, self.model.max_batch)
            case _:
                return 0

    @translated()
    @torch.inference_mode()
    def step(self, stage: str, jobs: Sequence[Job], emit: Emit) -> None:  # noqa: ARG002  see `land`
        with self._lane.use():
            self._step(stage, cast("Sequence[GlmTtsJob]", jobs))

    def _step(self, stage: str, jobs: Sequence[GlmTtsJob]) -> None:
        match stage:
            case "admit":
                if admitted := [job for job in jobs if self._admit(job)]:
                    self._prefill(admitted)
            case "prefill":
                self._prefill(jobs)
            case "decode":
                self._decode(jobs)
            case _:
                self._render(stage, jobs)

    @translated()
    @torch.inference_mode()
    def land(self, emit: Emit) -> None:
        for stage in [stage for stage, flight in self._flights.items() if flight.is_over()]:
            flight = self._flights.pop(stage)
            self._renderers[stage].settle(flight)
            with self._lane.use():
                self._hand_on(flight, emit)

    def _hand_on(self, flight: Flight, emit: Emit) -> None:
        for block in flight.blocks:
            job, audio = block.job, block.audio.numpy()
            job.is_in_flight = False
            if job.is_finished:
                continue
            if len(audio):
                emit(StepOutput(job.id, audio, progress=block.progress))
            if job.stage == "land":
                job.stage = None if job.slot is None else _stage_of(job)
            self._listen(job, block.piece, audio)

    def finish(self, job: Job) -> None:
        finished = cast("GlmTtsJob", job)
        finished.is_finished = True
        self._free(finished)

    def _admit(self, job: GlmTtsJob) -> bool:
        """Begin with a job, or leave it where it waits until another has given its memory back."""
        try:
            self._begin_piece(job)
        except torch.OutOfMemoryError:
            if not self.model.decoder.has_jobs:
                raise
            return False
        return True

    def _begin_piece(self, job: GlmTtsJob) -> None:
        """Set up the job's next piece in a slot of the decoder."""
        model, text_ids = self.model, job.texts[0]
        prompt_ids = self._prompt_ids(job, text_ids)
        if self._room(prompt_ids) < self._least(text_ids):
            job.history.forget()
            prompt_ids = self._prompt_ids(job, text_ids)
        seed, preset = job.next_seed(), job.preset
        most = int(self._options.max_tokens_per_text_token * len(text_ids))
        params = DecodeParams(
            seed=seed,
            sampler=preset.sampler,
            temperature=preset.temperature,
            top_p=preset.top_p,
            top_k=preset.top_k,
            min_tokens=self._least(text_ids),
            max_tokens=min(most, self._room(prompt_ids)),
        )
        # A later piece's first block is rendered with the others.
        with self._renderers["first" if job.is_silent else "render"].lane.use():
            mel = MelStream(job.voice, self._plan, model.rates, seed)
            sound = model.vocoder.begin(seed)
        job.piece = Piece(text_ids, params, mel, sound, SilenceRun(model.rates.sample_rate))
        job.slot = model.decoder.admit(prompt_ids, params)
        job.texts.pop(0)
        job.stage = "prefill"

    def _prompt_ids(self, job: GlmTtsJob, text_ids: Sequence[int]) -> list[int]:
        """What the language model reads before it speaks a piece."""
        ids = self.model.ids
        prompt_text, prompt_speech = job.history.prompt_for(text_ids)
        speech = (ids.first_audio + token for token in prompt_speech)
        return [*prompt_text, *text_ids, ids.begin, *speech]

    def _room(self, prompt_ids: Sequence[int]) -> int:
        """Speech tokens that fit in behind a prompt."""
        return self._options.context_tokens - len(prompt_ids)

    def _least(self, text_ids: Sequence[int]) -> int:
        """Speech tokens before a text can have come to its end."""
        return int(self._options.min_tokens_per_text_token * len(text_ids))

    def _prefill(self, jobs: Sequence[GlmTtsJob]) -> None:
        self._take(jobs, self.model.decoder.prefill([_slot(job) for job in jobs])[None])

    def _decode(self, jobs: Sequence[GlmTtsJob]) -> None:
        count = min(_BURST, max(job.current.lacking for job in jobs))
        self._take(jobs, self.model.decoder.step([_slot(job) for job in jobs], count))

    def _take(self, jobs: Sequence[GlmTtsJob], drawn: Tensor) -> None:
        """Give each job the tokens that were drawn for it, [count, B], and its next stage."""
        # The host has to know when a block is full or the speech is over.
        for job, tokens in zip(jobs, drawn.T.tolist(), strict=True):
            piece = job.current
            piece.take(tokens, end=self.model.ids.audio_tokens)
            if piece.is_full:
                job.remark = f"cut off: no end after {len(piece.tokens)} speech tokens"
            job.stage = _stage_of(job)

    def _render(self, stage: str, waiting: Sequence[GlmTtsJob]) -> None:
        jobs = _fitting(waiting, _FRAMES[stage])
        self._flights[stage] = self._renderers[stage].launch(jobs)
        for job in jobs:
            is_first = job.is_silent
            job.is_in_flight, job.is_silent = True, False
            if job.current.has_ended:
                self._end_piece(job)
            else:
                job.stage = "land" if is_first else "decode"

    def _listen(self, job: GlmTtsJob, piece: Piece, audio: Samples) -> None:
        """End a piece that the model does not find the end of."""
        longest = self._options.max_silence_s
        piece.silence.hear(audio)
        if longest and piece.silence.seconds > longest and not piece.has_ended:
            piece.has_ended = True
            job.remark = f"a piece was ended after {piece.silence.seconds:.1f} s of silence"
            self._end_piece(job)

    def _end_piece(self, job: GlmTtsJob) -> None:
        """What comes after a piece: the next one, or nothing."""
        piece = job.current
        self._free(job)
        if job.texts:
            job.history.add(piece.text_ids, piece.tokens)
            self._begin_piece(job)
        else:
            job.stage = "land" if job.is_in_flight else None

    def _free(self, job: GlmTtsJob) -> None:
        if job.slot is not None:
            self.model.decoder.release(job.slot)
            job.slot = None


def _slot(job: GlmTtsJob) -> int:
    assert job.slot is not None, "the job has no slot"
    return job.slot


def _stage_of(job: GlmTtsJob) -> str:
    """Of a job with a slot, once it has tokens."""
    if not job.current.has_block:
        return "decode"
    if job.is_in_flight:
        return "land"
    return "first" if job.is_silent and job.current.frames <= _FRAMES["first"] else "render"


def _fitting(jobs: Sequence[GlmTtsJob], room: int) -> list[GlmTtsJob]:
    """As many as have room together, in their order; one at least."""
    fitting: list[GlmTtsJob] = []
    for job in jobs:
        frames = job.current.frames
        if not fitting or frames <= room:
            fitting.append(job)
            room -= frames
    return fitting


def _on_device(features: PromptFeatures, device: torch.device) -> Voice:
    def moved(name: str, dtype: torch.dtype) -> Tensor:
        array = torch.tensor(features.arrays[name], dtype=dtype)
        # From pinned memory, as the copy would otherwise wait for what the lane does now.
        array = array if device.type == "cpu" else array.pin_memory()
        return array.to(device, non_blocking=True)

    return Voice(
        speech_tokens=moved("speech_tokens", torch.int64),
        mel=moved("mel", torch.float32),
        speaker=moved("speaker", torch.float32),
    )
