"""GLM-TTS as the runtime sees it: prefill -> decode -> render, each in batches.

```
admit, prefill   the language model reads [prompt text, text, prompt speech]
decode           one speech token a job and step, until a block is full
first, render    the block's tokens -> mel (flow) -> audio (vocoder), begun and left to the device
(land)           the audio is there -> emit
```
While a block is rendered its job decodes the next, but for the first: that one is to be heard soon.
So it is rendered beside the others' blocks, in a lane of its own; where many come, in both lanes.
A long text is spoken piece by piece; each begins at prefill, in a slot of the decoder.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor

from engine.config import GlmTtsOptions
from engine.errors import InvalidRequest, UnknownVoice
from engine.glm_tts.decoder import DecodeParams
from engine.glm_tts.faults import translated
from engine.glm_tts.guards import SilenceRun
from engine.glm_tts.history import History
from engine.glm_tts.job import GlmTtsJob, Piece, Text
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
_PREFILL_ROWS = 1024
"""Prompts read in one step, and their tokens: more would keep the streams that play waiting. It is
the largest pass that `PrefillTuning` records: 1,000 rows take 5.9 ms on an H200, 800 hardly less
(5.7), 1,600 two passes and 10.4; 1,500 of one prompt, which is read by itself, 10.8
(`bench/glm-prefill-h200.jsonl`)."""

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
        """What the device renders, by its lane."""

    @property
    def model(self) -> Model:
        assert self._model is not None, "not loaded"
        return self._model

    def load(self, device: Device) -> EngineInfo:
        self._model = model = load_model(self._options, device)
        self._plan = BlockPlan.of(self._options, model.rates)
        self._memory = ModelMemory(model.device)
        self._memory.adopt(model, visitor=model.prompts)
        self._lane, self._source = Lane(model.device, urgency=2), Lane(model.device)
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
        return Renderer(self.model, lane, self._source, self._memory.room(lane), windows, frames)

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
        if (preset := preset_of(request.sampling)).top_k > K_MAX:
            raise InvalidRequest(f"top_k must be {K_MAX} or less for GLM-TTS", "top_k")
        prompt_text = model.tokenizer.encode(model.text.prompt(request.prompt.text))
        with self._source.use():
            voice = _on_device(features, model.device)
        job = GlmTtsJob(
            job_id,
            self._texts(request.text),
            voice,
            History(prompt_text, features.arrays["speech_tokens"].tolist()),
            preset,
            secrets.randbits(31) if request.seed is None else request.seed,
        )
        if (first := job.next_text) is None:
            raise InvalidRequest("input: there is nothing in it to speak", "input")
        if self._room(self._prompt_ids(job, first.ids)) <= self._least(first.ids):
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
            case "first" | "render" if self._free_lane(stage):
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
        for lane in [lane for lane, flight in self._flights.items() if flight.is_over()]:
            flight = self._flights.pop(lane)
            self._renderers[lane].settle(flight)
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
            job.is_heard = True
            if job.stage == "land":
                job.stage = None if job.is_spoken else _stage_of(job)
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
        model = self.model
        text, prompt_ids = self._next_prompt(job)
        text_ids = text.ids
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
        with self._source.use():
            mel = MelStream(job.voice, self._plan, model.rates, seed)
            sound = model.vocoder.begin(seed)
        silence = SilenceRun(model.rates.sample_rate)
        piece = Piece(text, len(prompt_ids), params, mel, sound, silence)
        job.begin(piece, model.decoder.admit(prompt_ids, params))

    def _texts(self, text: str) -> Iterator[Text]:
        """Of the pieces, read as they are asked for: numbers take long."""
        for piece in self.model.text.pieces(text):
            yield Text(self.model.tokenizer.encode(piece.text), piece.before)

    def _next_prompt(self, job: GlmTtsJob) -> tuple[Text, list[int]]:
        """A job's next text, and what the language model reads before it speaks it.

        Where there is no room, what was said before is forgotten; where that is not enough, the
        text is halved: the first one had room, or the job would not have begun.
        """
        while True:
            text = job.next_text
            assert text is not None, "all pieces were begun"
            prompt_ids = self._prompt_ids(job, text.ids)
            if self._room(prompt_ids) >= self._least(text.ids):
                return text, prompt_ids
            if not job.history.forget():
                job.halve_next()

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

    def _prefill(self, waiting: Sequence[GlmTtsJob]) -> None:
        jobs = _fitting(waiting, _PREFILL_ROWS, lambda piece: piece.prompt_tokens)
        self._take(jobs, self.model.decoder.prefill([_slot(job) for job in jobs])[None])

    def _decode(self, jobs: Sequence[GlmTtsJob]) -> None:
        count = min(_BURST, max(1, *(job.current.lacking for job in jobs)))
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
        lane = self._free_lane(stage)
        assert lane is not None, "the device renders already"
        jobs = _fitting(waiting, _FRAMES[lane], lambda piece: piece.frames)
        self._flights[lane] = self._renderers[lane].launch(jobs)
        for block in self._flights[lane].blocks:
            job = block.job
            job.is_in_flight, job.is_silent = True, False
            if block.is_last:
                self._end_piece(job)
            else:
                job.stage = _stage_of(job)

    def _free_lane(self, stage: str) -> str | None:
        """For a render: first blocks may take the others' lane."""
        lanes = ("first", "render") if stage == "first" else ("render",)
        return next((lane for lane in lanes if lane not in self._flights), None)

    def _listen(self, job: GlmTtsJob, piece: Piece, audio: Samples) -> None:
        """End a piece that the model does not find the end of."""
        longest = self._options.max_silence_s
        piece.silence.hear(audio)
        is_current = job.piece is piece and not job.is_spoken
        if longest and piece.silence.seconds > longest and is_current:
            piece.has_ended = True
            job.remark = f"a piece was ended after {piece.silence.seconds:.1f} s of silence"
            self._end_piece(job)

    def _end_piece(self, job: GlmTtsJob) -> None:
        """What comes after a piece: the next one, or nothing."""
        piece = job.current
        self._free(job)
        if job.next_text is not None:
            job.history.add(piece.text.ids, piece.tokens)
            self._begin_piece(job)
        else:
            job.is_spoken = True
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
    if job.is_in_flight and (job.current.has_block or not job.is_heard):
        return "land"
    if not job.current.has_block:
        return "decode"
    return "first" if job.is_silent and job.current.frames <= _FRAMES["first"] else "render"


def _fitting(jobs: Sequence[GlmTtsJob], room: int, size: Callable[[Piece], int]) -> list[GlmTtsJob]:
    """As many as have room together, in their order; one at least."""
    fitting: list[GlmTtsJob] = []
    for job in jobs:
        taken = size(job.current)
        if not fitting or taken <= room:
            fitting.append(job)
            room -= taken
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
