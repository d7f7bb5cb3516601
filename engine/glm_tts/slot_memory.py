"""Keys and values of each slot in memory of its own, which it gets with its first job."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.glm_tts.dims import LlmDims

_UNIT_BYTES = 64


class SlotMemory:
    """Worker's loop only. A slot that was never filled costs nothing.

    Attributes:
        origin: Where kernels count from: the spare slot's memory, one token long. The spare slot
            is the last; a row that fills up a batch reads and writes it.
        places: [slots] int64: distance of each slot's memory from `origin`, in units.
        rooms: [slots] int64: tokens that each slot can hold.
        unit: Values in a unit. Kernels know from it how well memory is aligned.
    """

    def __init__(
        self, dims: LlmDims, slots: int, tokens: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        assert tokens <= dims.max_positions
        self._heads = (dims.layers, 2, dims.kv_heads)
        self._width = dims.head_dim
        self._tokens = tokens
        self._memory: dict[int, Tensor] = {}
        self.origin = torch.zeros((*self._heads, 1, self._width), dtype=dtype, device=device)
        self.places = torch.zeros(slots, dtype=torch.int64, device=device)
        self.rooms = torch.ones(slots, dtype=torch.int64, device=device)
        self.unit = _UNIT_BYTES // dtype.itemsize

    def fill(self, slot: int) -> None:
        """Make sure that a slot has its memory; what it holds is of no account.

        Raises:
            torch.OutOfMemoryError: there is no more.
        """
        if slot in self._memory:
            return
        shape = (*self._heads, self._tokens, self._width)
        memory = torch.empty(shape, dtype=self.origin.dtype, device=self.origin.device)
        distance, rest = divmod(memory.data_ptr() - self.origin.data_ptr(), _UNIT_BYTES)
        assert rest == 0, "memory is not aligned"
        self._memory[slot] = memory
        self.places[slot] = distance
        self.rooms[slot] = self._tokens

    def clear(self) -> None:
        """Give the memory of all slots back."""
        self._memory.clear()
        self.places.zero_()
        self.rooms.fill_(1)
