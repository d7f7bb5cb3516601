"""GLM-TTS as the runtime sees it: prefill -> decode -> render, each in batches.

```
admit, prefill   the language model reads [prompt text, text, prompt speech]
decode           one speech token a job and step, until a block is full
render           the block's tokens -> mel (flow) -> audio (vocoder) -> emit; back to decode
```
A long text is spoken piece by piece; each begins at prefill, in the slot that its job has.
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
from engine.glm_tts.guards import SilenceRun
from engine.glm_tts.history import History
from engine.glm_tts.job import GlmTtsJob, Piece
from engine.glm_tts.model import Model, load_model
from engine.glm_tts.offload import Offloader
from engine.glm_tts.presets import preset_of
from engine.glm_tts.sampling import K_MAX
from engine.glm_tts.stream import BlockPlan, MelStream, Voice
from engine.protocol import Emit
from engine.types import (
    Device,
    DeviceMemory,
    EngineInfo,
    Job,
    PromptFeatures,
    StepOutput,
    SynthesisRequest,
    VoicePrompt,
)

_BURST = 4
"""Tokens drawn before the host looks at them: the device need not wait for it in between. What is
drawn beyond a speech's end is thrown away, and a job that comes waits a little longer."""

_PREFILLS = 8
"""Prompts read in one step: more would keep the streams that play waiting."""


class GlmTts:
    """Implements `engine.protocol.Cloner`.

    Args:
        options: See there.
    """

    def __init__(self, options: GlmTtsOptions) -> None:
        self._options = options
        self._model: Model | None = None

    @property
    def model(self) -> Model:
        assert self._model is not None, "not loaded"
        return self._model

    def load(self, device: Device) -> EngineInfo:
        self._model = model = load_model(self._options, device)
        self._plan = BlockPlan.of(self._options, model.rates)
        model.record(self._windows())
        self._offloader = Offloader(
            model,
            model.device,
            scratch=model.decoder.scratch,
            forget=model.forget_addresses,
            recapture=self._recapture,
        )
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

    def offload(self) -> None:
        self._offloader.offload()

    def restore(self) -> None:
        self._offloader.restore()

    def memory(self) -> DeviceMemory | None:
        return self._offloader.memory()

    def _recapture(self) -> None:
        self.model.decoder.record()
        self.model.record(self._windows())

    def _windows(self) -> list[int]:
        """Mel frames that the vocoder is given at once, by the plan."""
        per_token = self.model.rates.mel_hz // self.model.rates.token_hz
        context, hold = self.model.vocoder.context_frames, self.model.vocoder.hold_frames
        first, *others = (per_token * tokens for tokens in self._plan.blocks)
        return [first, *(frames + context + hold for frames in others)]

    @torch.inference_mode()
    def prepare(self, prompt: VoicePrompt) -> PromptFeatures:
        return self.model.prompts.encode(prompt)

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
        job = GlmTtsJob(
            job_id,
            texts,
            _on_device(features, model.device),
            History(prompt_text, features.arrays["speech_tokens"].tolist()),
            preset,
            secrets.randbits(31) if request.seed is None else request.seed,
            SilenceRun(model.rates.sample_rate),
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
            case _:
                return self.model.max_batch

    @torch.inference_mode()
    def step(self, stage: str, jobs: Sequence[Job], emit: Emit) -> None:
        batch = cast("Sequence[GlmTtsJob]", jobs)
        match stage:
            case "admit":
                for job in batch:
                    self._begin_piece(job)
                self._prefill(batch)
            case "prefill":
                self._prefill(batch)
            case "decode":
                self._decode(batch)
            case _:
                self._render(batch, emit)

    def finish(self, job: Job) -> None:
        self._free(cast("GlmTtsJob", job))

    def _begin_piece(self, job: GlmTtsJob) -> None:
        """Set up the job's next piece in a slot of the decoder."""
        model, text_ids = self.model, job.texts.pop(0)
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
        mel = MelStream(job.voice, self._plan, model.rates, seed)
        job.piece = Piece(text_ids, params, mel, model.vocoder.begin(seed))
        job.slot = model.decoder.admit(prompt_ids, params)
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
            job.stage = "render" if piece.has_block else "decode"

    def _render(self, jobs: Sequence[GlmTtsJob], emit: Emit) -> None:
        model = self.model
        mels = self._solve(jobs)
        pieces = [job.current for job in jobs]
        sounds = model.vocoder.vocode(
            mels, [piece.sound for piece in pieces], [piece.has_ended for piece in pieces]
        )
        for job, sound in zip(jobs, sounds, strict=True):
            audio = sound.cpu().numpy()
            if len(audio):
                emit(StepOutput(job.id, audio))
            job.silence.hear(audio)
            self._go_on(job)

    def _solve(self, jobs: Sequence[GlmTtsJob]) -> list[Tensor]:
        """The mel that each job's next block adds, float32 [F, 80]; one batch for each preset."""
        mels: dict[int, Tensor] = {}
        for preset in {job.preset for job in jobs}:
            same = [job for job in jobs if job.preset == preset]
            windows = [
                piece.mel.window(piece.on(self.model.device), is_last=piece.has_ended)
                for piece in (job.current for job in same)
            ]
            solved = self.model.flow.solve(
                windows, steps=preset.flow_steps, cfg_rate=preset.cfg_rate
            )
            for job, solution in zip(same, solved, strict=True):
                mels[job.id] = job.current.mel.accept(solution)
        return [mels[job.id] for job in jobs]

    def _go_on(self, job: GlmTtsJob) -> None:
        """What comes after a block: the next one, the next piece, or nothing."""
        piece, longest = job.current, self._options.max_silence_s
        if longest and job.silence.seconds > longest:
            piece.has_ended = True
            job.remark = f"a piece was ended after {job.silence.seconds:.1f} s of silence"
        if not piece.has_ended:
            job.stage = "decode"
            return
        self._free(job)
        if not job.texts:
            job.stage = None
            return
        job.history.add(piece.text_ids, piece.tokens)
        job.silence = SilenceRun(self.model.rates.sample_rate)
        self._begin_piece(job)

    def _free(self, job: GlmTtsJob) -> None:
        if job.slot is not None:
            self.model.decoder.release(job.slot)
            job.slot = None


def _slot(job: GlmTtsJob) -> int:
    assert job.slot is not None, "the job has no slot"
    return job.slot


def _on_device(features: PromptFeatures, device: torch.device) -> Voice:
    arrays = features.arrays
    return Voice(
        speech_tokens=torch.tensor(arrays["speech_tokens"], dtype=torch.int64, device=device),
        mel=torch.tensor(arrays["mel"], dtype=torch.float32, device=device),
        speaker=torch.tensor(arrays["speaker"], dtype=torch.float32, device=device),
    )
