"""Speech tokens for many jobs at once: each holds a slot, and any set of slots steps together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from msgspec import Struct
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from engine.errors import InvalidRequest
from engine.glm_tts.kv_cache import KvCache
from engine.glm_tts.llm import Llm
from engine.glm_tts.philox import Purpose, exponentials
from engine.glm_tts.sampling import K_MAX, Draws, SamplerParams, sample

WINDOW_MAX = 32
"""Tokens that the sampler can look back, at most."""


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
        """Reserve the memory of all slots.

        Args:
            llm: Its weights are on `device`.
            slots: Jobs at a time.
            context_tokens: Prompt and speech tokens of one job.
            device: Where to compute.
        """
        self.end = llm.end
        self._llm = llm
        self._device = torch.device(device)
        self._cache = KvCache(llm.dims, slots, context_tokens, device, llm.dtype)
        self._free = [*reversed(range(slots))]
        self._prompts: dict[int, Tensor] = {}

        def per_slot(dtype: torch.dtype) -> Tensor:
            return torch.zeros(slots, dtype=dtype, device=device)

        self._params = SamplerParams(
            temperature=per_slot(torch.float32),
            top_p=per_slot(torch.float32),
            top_k=per_slot(torch.int64),
            window=per_slot(torch.int64),
            tau=per_slot(torch.float32),
            is_ras=per_slot(torch.bool),
        )
        self._seeds = per_slot(torch.int64)
        self._min_tokens = per_slot(torch.int64)
        self._drawn = per_slot(torch.int64)  # tokens so far
        self._history = torch.full((slots, WINDOW_MAX), -1, device=device)  # the newest first

    @property
    def free_slots(self) -> int:
        """Jobs that could be admitted now."""
        return len(self._free)

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
        """
        assert self._free
        assert prompt_ids
        assert 0 <= params.window <= WINDOW_MAX
        room = self._cache.tokens
        if len(prompt_ids) + params.max_tokens > room:
            raise InvalidRequest(
                f"{len(prompt_ids)} tokens of text and voice and up to {params.max_tokens} of "
                f"speech are more than the {room} that the model is run with",
                "input",
            )
        if not 1 <= params.top_k <= K_MAX:
            raise InvalidRequest(f"top_k must be within 1 and {K_MAX}", "top_k")
        slot = self._free.pop()
        self._prompts[slot] = torch.tensor(prompt_ids)
        self._params.temperature[slot] = params.temperature
        self._params.top_p[slot] = params.top_p
        self._params.top_k[slot] = params.top_k
        self._params.window[slot] = params.window
        self._params.tau[slot] = params.tau
        self._params.is_ras[slot] = params.sampler == "ras"
        self._seeds[slot] = params.seed
        self._min_tokens[slot] = params.min_tokens
        self._drawn[slot] = 0
        self._history[slot] = -1
        return slot

    @torch.inference_mode()
    def prefill(self, slots: Sequence[int]) -> Tensor:
        """Read the prompts of newly admitted slots, and draw the first token of each.

        Returns:
            [B] int64, on the device.
        """
        prompts = [self._prompts.pop(slot) for slot in slots]
        ids = self._to_device(pad_sequence(prompts, batch_first=True))
        lengths = self._to_device(torch.tensor([len(prompt) for prompt in prompts]))
        index = self._to_device(torch.tensor(slots))
        return self._draw(self._llm.prefill(ids, lengths, index, self._cache), index)

    @torch.inference_mode()
    def step(self, slots: Sequence[int]) -> Tensor:
        """Draw one further token for each of the slots.

        A slot whose speech is over may be stepped on, within its `max_tokens`; what it gives then
        means nothing.

        Returns:
            [B] int64, on the device.
        """
        index = self._to_device(torch.tensor(slots))
        last = self._llm.column_ids[self._history[index, 0]]
        return self._draw(self._llm.decode(last, index, self._cache), index)

    def release(self, slot: int) -> None:
        """Give the slot back, at any time after `admit`."""
        assert slot not in self._free
        self._prompts.pop(slot, None)
        self._free.append(slot)

    def _draw(self, logits: Tensor, index: Tensor) -> Tensor:
        """Sample from logits [B, V] of the slots index [B], and remember it."""
        drawn, history, seeds = self._drawn[index], self._history[index], self._seeds[index]
        tokens = sample(
            logits,
            SamplerParams(*(values[index] for values in self._params)),
            history,
            drawn < self._min_tokens[index],
            self.end,
            Draws(
                exponentials(seeds, Purpose.NUCLEUS, drawn[:, None], K_MAX)[:, 0],
                exponentials(seeds, Purpose.FULL, drawn[:, None], logits.shape[-1])[:, 0],
            ),
        )
        self._drawn[index] = drawn + 1
        self._history[index] = torch.cat((tokens[:, None], history[:, :-1]), -1)
        return tokens

    def _to_device(self, values: Tensor) -> Tensor:
        # Waits for nothing: pageable memory is copied aside before the call returns.
        return values.to(self._device, non_blocking=True)
