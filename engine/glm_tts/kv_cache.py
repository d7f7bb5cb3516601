"""Keys and values of the tokens that the language model has seen."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.glm_tts.dims import LlmDims


class KvCache:
    """One row of each tensor for each job in flight. Worker's loop only.

    Attributes:
        k: [layers, slots, kv_heads, tokens, head_dim] in the weights' dtype, after rope.
        v: Likewise.
        lengths: [slots] int64: tokens of a slot that are valid. What lies beyond is stale, but
            finite, and is never attended to.
    """

    def __init__(
        self,
        dims: LlmDims,
        slots: int,
        tokens: int,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> None:
        assert tokens <= dims.max_positions
        shape = (dims.layers, slots, dims.kv_heads, tokens, dims.head_dim)
        # Zeros, not empty: attention weighs what it masks with 0, and 0 times NaN is NaN.
        self.k = torch.zeros(shape, device=device, dtype=dtype)
        self.v = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths = torch.zeros(slots, device=device, dtype=torch.int64)

    @property
    def tokens(self) -> int:
        """That a slot can hold."""
        return self.k.shape[3]

    def write_prompt(self, layer: int, slots: Tensor, k: Tensor, v: Tensor) -> None:
        """Fill the slots from their start; k, v [B, kv_heads, T, head_dim]."""
        tokens = k.shape[2]
        self.k[layer][slots, :, :tokens] = k
        self.v[layer][slots, :, :tokens] = v

    def write_token(
        self, layer: int, slots: Tensor, positions: Tensor, k: Tensor, v: Tensor
    ) -> None:
        """One position a slot; positions [B] int64, k, v [B, kv_heads, head_dim]."""
        self.k[layer][slots, :, positions] = k
        self.v[layer][slots, :, positions] = v
