"""What the sampler knows of each slot, on the device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from engine.glm_tts.sampling import SamplerParams

WINDOW_MAX = 32
"""Tokens that a slot remembers: the sampler looks back as many, at most."""


class SlotStates(NamedTuple):
    """A row for each slot. What a slot holds that has no job is of no account."""

    params: SamplerParams
    seeds: Tensor
    """[slots] int64"""
    min_tokens: Tensor
    """[slots] int64: the end does not come among the first so many."""
    drawn: Tensor
    """[slots] int64: tokens so far."""
    history: Tensor
    """[slots, WINDOW_MAX] int64: the newest first, -1 where there is none."""

    @classmethod
    def reserve(cls, slots: int, device: torch.device) -> SlotStates:
        def per_slot(dtype: torch.dtype) -> Tensor:
            return torch.ones(slots, dtype=dtype, device=device)

        return cls(
            SamplerParams(
                temperature=per_slot(torch.float32),
                top_p=per_slot(torch.float32),
                top_k=per_slot(torch.int64),
                window=per_slot(torch.int64),
                tau=per_slot(torch.float32),
                is_ras=per_slot(torch.bool),
            ),
            seeds=per_slot(torch.int64),
            min_tokens=per_slot(torch.int64),
            drawn=per_slot(torch.int64),
            history=torch.full((slots, WINDOW_MAX), -1, device=device),
        )

    def newest(self, slots: Tensor, count: int) -> Tensor:
        """The last `count` tokens of slots [B], in their order: [count, B] int64."""
        return self.history[slots, :count].flip(-1).T
