"""Drawing tokens with torch's own operations, on any device and in any dtype."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from engine.glm_tts.kv_cache import KvCache
from engine.glm_tts.llm import Llm
from engine.glm_tts.model_memory import GraphRoom
from engine.glm_tts.philox import Purpose, exponentials
from engine.glm_tts.sampling import K_MAX, Draws, SamplerParams, sample
from engine.glm_tts.slot_states import SlotStates


class PlainDecode:
    """Implements `decoder.Decode`.

    Args:
        llm: Its weights are on the device where to compute.
        states: Read and kept up to date, a row for each slot.
        tokens: That a slot can hold.
    """

    def __init__(self, llm: Llm, states: SlotStates, tokens: int) -> None:
        self._llm = llm
        self._states = states
        self._device = llm.embedding.device
        self.cache = KvCache(llm.dims, len(states.seeds), tokens, self._device, llm.dtype)

    def prefill(self, prompts: Sequence[Tensor], slots: Sequence[int]) -> Tensor:
        ids = self._to_device(pad_sequence([*prompts], batch_first=True))
        lengths = self._to_device(torch.tensor([len(prompt) for prompt in prompts]))
        index = self._to_device(torch.tensor(slots))
        return self.draw(self._llm.prefill(ids, lengths, index, self.cache), index)

    def step(self, slots: Sequence[int], count: int) -> Tensor:
        index = self._to_device(torch.tensor(slots))
        for _ in range(count):
            last = self._llm.column_ids[self._states.history[index, 0]]
            self.draw(self._llm.decode(last, index, self.cache), index)
        return self._states.newest(index, count)

    def reserve(self, slot: int) -> None:
        """All have."""

    def record(self, room: GraphRoom) -> None:
        """There is nothing to record."""

    def forget_slots(self) -> None:
        """They share one piece of memory, which leaves and comes back with the weights."""

    def draw(self, logits: Tensor, index: Tensor) -> Tensor:
        """Sample from logits [B, V] of the slots index [B], and remember it."""
        params, seeds, min_tokens, drawn, history = self._states
        step, seed = drawn[index], seeds[index]
        tokens = sample(
            logits,
            SamplerParams(*(values[index] for values in params)),
            history[index],
            step < min_tokens[index],
            self._llm.end,
            Draws(
                exponentials(seed, Purpose.NUCLEUS, step[:, None], K_MAX)[:, 0],
                exponentials(seed, Purpose.FULL, step[:, None], logits.shape[-1])[:, 0],
            ),
        )
        drawn[index] = step + 1
        history[index] = torch.cat((tokens[:, None], history[index, :-1]), -1)
        return tokens

    def _to_device(self, values: Tensor) -> Tensor:
        # Waits for nothing: pageable memory is copied aside before the call returns.
        return values.to(self._device, non_blocking=True)
