"""Speech tokens for many jobs at once: each holds a slot, and any set of slots steps together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from msgspec import Struct
from torch import Tensor

from engine.errors import InvalidRequest
from engine.glm_tts.llm import Llm
from engine.glm_tts.model_memory import GraphRoom
from engine.glm_tts.plain_decode import PlainDecode
from engine.glm_tts.sampling import K_MAX
from engine.glm_tts.slot_states import WINDOW_MAX, SlotStates
from engine.glm_tts.tuning import Tuning

STEPS_MAX = WINDOW_MAX
"""Tokens that can be drawn at once: a slot remembers no more."""


class Decode(Protocol):
    """The model, the memory of all slots, and the sampler."""

    def prefill(self, prompts: Sequence[Tensor], slots: Sequence[int]) -> Tensor:
        """Read prompts, int64 [T] each, and draw the first tokens: [B] int64."""

    def step(self, slots: Sequence[int], count: int) -> Tensor:
        """Draw more: [count, B] int64."""

    def reserve(self, slot: int) -> None:
        """See that a slot has memory. Raises torch.OutOfMemoryError."""

    def record(self, room: GraphRoom) -> None:
        """See `Decoder`."""

    def forget_slots(self) -> None:
        """See `Decoder`."""


class DecodeParams(Struct, frozen=True, kw_only=True):
    """How one job's tokens are drawn; see `sampling.SamplerParams`."""

    seed: int
    """-2**63 to 2**63 - 1."""
    temperature: float = 1.0
    top_p: float = 0.8
    top_k: int = 25
    """1 to sampling.K_MAX."""
    window: int = 10
    """0 to WINDOW_MAX."""
    tau: float = 0.1
    sampler: Literal["ras", "topk"] = "ras"
    min_tokens: int
    """The end does not come among the first so many."""
    max_tokens: int
    """That the caller will ask for: room is kept for these, and for no more."""


class Decoder:
    """The language model, its cache and its samplers. Worker's loop only.

    A slot is admitted, prefilled once, then stepped. All that a step needs of its slots lives on
    the device, and a step reads nothing back. The tokens that it returns are speech tokens, or
    `end` where the speech is over; the caller reads them when it likes, and counts them.

    Attributes:
        end: The token after the last.
    """

    def __init__(
        self, llm: Llm, *, slots: int, context_tokens: int, device: torch.device | str
    ) -> None:
        """Take a model over.

        Args:
            llm: Its weights are on `device`; what is faster otherwise is changed in it.
            slots: Jobs at a time.
            context_tokens: Prompt and speech tokens of one job.
            device: Where to compute.
        """
        self.end = llm.end
        # The fast way fills up a batch with a slot that no job has.
        self._states = SlotStates.reserve(slots + 1, torch.device(device))
        self._decode = _decode(llm, self._states, context_tokens)
        self._room = context_tokens
        self._slots = slots
        # The slot that was freed last is the next to be taken: it has its memory.
        self._free = [*reversed(range(slots))]
        self._lost = 0
        self._prompts: dict[int, Tensor] = {}

    @property
    def free_slots(self) -> int:
        """Jobs that could be admitted now."""
        return len(self._free)

    @property
    def has_jobs(self) -> bool:
        """Some slot is taken."""
        return len(self._free) + self._lost < self._slots

    @torch.inference_mode()
    def admit(self, prompt_ids: Sequence[int], params: DecodeParams) -> int:
        """Take a slot for a job. There must be a free one.

        Args:
            prompt_ids: Of the vocabulary; at least one.
            params: Of the job.
        Returns:
            The slot, to be released in the end.
        Raises:
            InvalidRequest: the job does not fit into a slot, or draws from too many tokens.
            torch.OutOfMemoryError: there is no memory for as many slots; the one that would have
                been taken is no more.
        """
        assert self._free
        assert prompt_ids
        assert 0 <= params.window <= WINDOW_MAX
        if len(prompt_ids) + params.max_tokens > self._room:
            raise InvalidRequest(
                f"{len(prompt_ids)} tokens of text and voice and up to {params.max_tokens} of "
                f"speech are more than the {self._room} that the model is run with",
                "input",
            )
        if not 1 <= params.top_k <= K_MAX:
            raise InvalidRequest(f"top_k must be within 1 and {K_MAX}", "top_k")
        slot = self._free.pop()
        try:
            self._decode.reserve(slot)
        except torch.OutOfMemoryError:
            self._lost += 1
            raise
        self._prompts[slot] = torch.tensor(prompt_ids)
        self._remember(slot, params)
        return slot

    @torch.inference_mode()
    def prefill(self, slots: Sequence[int]) -> Tensor:
        """Read the prompts of newly admitted slots, and draw the first token of each.

        Returns:
            [B] int64, on the device.
        """
        return self._decode.prefill([self._prompts.pop(slot) for slot in slots], slots)

    @torch.inference_mode()
    def step(self, slots: Sequence[int], count: int = 1) -> Tensor:
        """Draw further tokens for each of the slots, without waiting for any.

        A slot may be stepped on when its speech is over or its `max_tokens` are reached; what it
        gives then means nothing.

        Args:
            slots: No two the same.
            count: Tokens of each, 1 to STEPS_MAX.
        Returns:
            [count, B] int64, on the device.
        """
        assert 1 <= count <= STEPS_MAX
        return self._decode.step(slots, count)

    def record(self, room: GraphRoom) -> None:
        """Record what is fast only when recorded. Once: no tensor may move any more."""
        self._decode.record(room)

    @torch.inference_mode()
    def forget_slots(self) -> None:
        """With no job in hand: give the memory of slots back. They get it again as they need it."""
        self._decode.forget_slots()

    def release(self, slot: int) -> None:
        """Give the slot back, at any time after `admit`."""
        assert slot not in self._free
        self._prompts.pop(slot, None)
        self._free.append(slot)

    def _remember(self, slot: int, params: DecodeParams) -> None:
        """What the sampler has to know of a new job."""
        values, states = self._states.params, self._states
        values.temperature[slot] = params.temperature
        values.top_p[slot] = params.top_p
        values.top_k[slot] = params.top_k
        values.window[slot] = params.window
        values.tau[slot] = params.tau
        values.is_ras[slot] = params.sampler == "ras"
        states.seeds[slot] = params.seed
        states.min_tokens[slot] = params.min_tokens
        states.drawn[slot] = 0
        states.history[slot] = -1


def _decode(llm: Llm, states: SlotStates, tokens: int) -> Decode:
    """The fast way where there is one: bfloat16 on CUDA, in a size that the kernels divide."""
    is_fast = llm.embedding.is_cuda and llm.dtype == torch.bfloat16
    if is_fast and (tuning := Tuning()).fits(llm.dims):
        from engine.glm_tts.cuda_decode import CudaDecode

        return CudaDecode(llm, states, tokens, tuning)
    return PlainDecode(llm, states, tokens)
