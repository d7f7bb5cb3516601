"""Drawing tokens on CUDA: a step is one graph, recorded for a few sizes of the batch.

A job's tokens are the same bits whatever is beside it: `kernels` sees to it in a step, and a
prefill reads one prompt at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812  its name everywhere
import triton
from torch import Tensor

from engine.glm_tts import attention_kernels, kernels
from engine.glm_tts.cuda_prefill import read_prompt
from engine.glm_tts.cuda_sampler import CudaSampler
from engine.glm_tts.llm import Llm
from engine.glm_tts.slot_memory import SlotMemory
from engine.glm_tts.slot_states import WINDOW_MAX, SlotStates
from engine.glm_tts.tuning import Tile, Tiles, Tuning

_TILE_ROWS = 16
"""The least that a tensor core multiplies."""


class CudaDecode:
    """Implements `decoder.Decode`. Worker's loop only.

    Every tensor that a step touches stays where it is: graphs know them by address.

    Args:
        llm: Weights of dims that `tuning` fits. Its norms are folded, its head is padded.
        states: Read and kept up to date: a row for each slot, and one for the spare slot.
        tokens: That a slot can hold.
        tuning: Of the kernels.
        has_graphs: Otherwise each kernel is launched by itself.
    """

    def __init__(
        self,
        llm: Llm,
        states: SlotStates,
        tokens: int,
        tuning: Tuning | None = None,
        *,
        has_graphs: bool = True,
    ) -> None:
        self._llm = llm
        self._states = states
        self._tuning = tuning or Tuning()
        assert self._tuning.fits(llm.dims)
        self._device = llm.embedding.device
        self._spare = len(states.seeds) - 1
        llm.fold_norms()
        self._head = _padded(llm.head, [tiles.head.columns for tiles in self._tuning.tiles])
        llm.head = self._head[: len(llm.head)]
        self.memory = SlotMemory(llm.dims, self._spare + 1, tokens, self._device, llm.dtype)
        self._batches = self._sizes()
        self._reserve(self._batches[-1], tokens)
        self._sampler = CudaSampler(
            states, self._batches[-1], len(self._head), llm.end, self._tuning
        )
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._has_graphs = has_graphs
        self.record()

    @property
    def scratch(self) -> tuple[object, ...]:
        # The memory of slots is dropped before tensors are moved.
        return ()

    def forget_addresses(self) -> None:
        self._graphs.clear()
        self.memory.clear()

    @torch.inference_mode()
    def record(self) -> None:
        if not self._has_graphs:
            return
        self._slots.fill_(self._spare)
        for rows in self._batches:
            self._launch(rows)  # compiles what is new: that cannot be recorded
        torch.cuda.synchronize(self._device)
        for rows in reversed(self._batches):
            self._graphs[rows] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graphs[rows]):
                self._launch(rows)

    def prefill(self, prompts: Sequence[Tensor], slots: Sequence[int]) -> Tensor:
        lengths = [len(prompt) for prompt in prompts]
        all_ids = self._to_device(torch.cat([*prompts])).split_with_sizes(lengths)
        for row, (ids, slot) in enumerate(zip(all_ids, slots, strict=True)):
            self.memory.fill(slot)
            self._sampler.scores[row] = read_prompt(ids, slot, self._llm, self._head, self.memory)
        index = self._to_device(torch.tensor(slots))
        self._starts[index] = self._to_device(torch.tensor(lengths))
        self._slots[: len(slots)] = index
        self._sampler.launch(len(slots), self._slots)
        return self._sampler.tokens[: len(slots)].clone()

    def step(self, slots: Sequence[int], count: int) -> Tensor:
        rows = next(size for size in self._batches if size >= len(slots))
        filled_up = [*slots, *[self._spare] * (rows - len(slots))]
        self._slots[:rows] = self._to_device(torch.tensor(filled_up))
        for _ in range(count):
            if self._has_graphs:
                self._graphs[rows].replay()
            else:
                self._launch(rows)
        return self._states.newest(self._slots[: len(slots)], count)

    def _sizes(self) -> tuple[int, ...]:
        """Of the batches, up to all slots but the spare one."""
        below = (size for size in self._tuning.batches if size < self._spare)
        return (*below, self._spare)

    def _reserve(self, rows: int, tokens: int) -> None:
        """What passes from kernel to kernel."""
        dims, dtype = self._llm.dims, self._llm.dtype
        queries = dims.heads * dims.head_dim
        width = queries + 2 * dims.kv_heads * dims.head_dim
        self._splits = -(-tokens // self._tuning.split)
        parts = rows * dims.kv_heads * self._splits * _TILE_ROWS

        def reserve(*shape: int, of: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=of, device=self._device)

        self._slots = reserve(rows, of=torch.int64)
        self._starts = reserve(self._spare + 1, of=torch.int64)
        self._x = reserve(rows, dims.hidden)
        self._half = reserve(rows, dims.hidden, of=dtype)
        # Each norm's squares begin at an address that kernels see as aligned.
        self._squares = reserve(2 * dims.layers + 1, -(-rows // 16) * 16, of=torch.int64)
        self._qkv = reserve(rows, width, of=dtype)
        self._seen = reserve(rows, queries, of=dtype)
        self._inner = reserve(rows, dims.intermediate, of=dtype)
        self._sums = reserve(parts * dims.head_dim)
        self._peaks = reserve(parts * 2)
        self._arrived = reserve(rows * dims.kv_heads, of=torch.int32)

    def _launch(self, rows: int) -> None:
        """One step of the first rows of `_slots`."""
        tiles, layers = self._tuning.tiles_for(rows), self._llm.layers
        self._embed(rows)
        for index, layer in enumerate(layers):
            self._norm_linear(rows, tiles, tiles.qkv, 2 * index, layer.qkv, self._qkv)
            self._attend(rows, index)
            squares = 2 * index + 1
            self._linear_add(
                rows, tiles, tiles.attention_out, self._seen, layer.attention_out, squares
            )
            self._norm_swiglu(rows, tiles, squares, layer.gate_up)
            self._linear_add(rows, tiles, tiles.down, self._inner, layer.down, squares + 1)
        self._norm_linear(
            rows, tiles, tiles.head, 2 * len(layers), self._head, self._sampler.scores
        )
        self._sampler.launch(rows, self._slots)

    def _embed(self, rows: int) -> None:
        sites, stride = self._squares.shape
        hidden = self._llm.dims.hidden
        kernels.embed[(rows,)](
            self._llm.embedding, self._llm.column_ids, self._states.history, self._slots,
            self._x, self._half, self._squares,
            WINDOW=WINDOW_MAX, N=hidden, SITES=sites, STRIDE=stride,
            BLOCK=triton.next_power_of_2(hidden), SITE_BLOCK=triton.next_power_of_2(sites),
            **self._tuning.options(4, 1),
        )  # fmt: skip

    def _norm_linear(
        self, rows: int, tiles: Tiles, tile: Tile, site: int, weight: Tensor, out: Tensor
    ) -> None:
        columns, depth = weight.shape
        kernels.norm_linear[self._grid(rows, tiles, tile, columns)](
            self._half, self._squares[site], weight, out,
            rows, columns, depth, self._llm.dims.norm_eps,
            **self._product(tiles, tile),
        )  # fmt: skip

    def _norm_swiglu(self, rows: int, tiles: Tiles, site: int, weight: Tensor) -> None:
        columns, depth = self._inner.shape[1], weight.shape[1]
        kernels.norm_swiglu[self._grid(rows, tiles, tiles.gate_up, columns)](
            self._half, self._squares[site], weight, self._inner,
            rows, columns, depth, self._llm.dims.norm_eps,
            **self._product(tiles, tiles.gate_up),
        )  # fmt: skip

    def _linear_add(
        self, rows: int, tiles: Tiles, tile: Tile, inputs: Tensor, weight: Tensor, site: int
    ) -> None:
        columns, depth = weight.shape
        kernels.linear_add[self._grid(rows, tiles, tile, columns)](
            inputs, weight, self._x, self._half, self._squares[site],
            rows, columns, depth,
            **self._product(tiles, tile),
        )  # fmt: skip

    def _attend(self, rows: int, layer: int) -> None:
        dims, memory = self._llm.dims, self.memory
        attention_kernels.attend[(rows, dims.kv_heads, self._splits)](
            self._qkv, self._llm.cos, self._llm.sin,
            memory.origin, memory.places, memory.rooms,
            self._slots, self._starts, self._states.drawn,
            self._sums, self._peaks, self._arrived, self._seen,
            layer, dims.head_dim**-0.5,
            HEADS=dims.heads, KV_HEADS=dims.kv_heads, D=dims.head_dim, UNIT=memory.unit,
            SPLITS=self._splits, SPLIT=self._tuning.split, BLOCK=self._tuning.split_block,
            GROUP=_TILE_ROWS,
            **self._tuning.options(4, 2),
        )  # fmt: skip

    def _grid(self, rows: int, tiles: Tiles, tile: Tile, columns: int) -> tuple[int, int]:
        # Rows first: programs that read the same weights run at the same time.
        return -(-rows // tiles.rows), columns // tile.columns

    def _product(self, tiles: Tiles, tile: Tile) -> dict[str, int | bool]:
        return {
            "ROWS": tiles.rows,
            "COLUMNS": tile.columns,
            "DEPTH": tile.depth,
            "PREFETCH": self._tuning.prefetch,
            **self._tuning.options(tile.warps, tile.stages),
        }

    def _to_device(self, values: Tensor) -> Tensor:
        # Waits for nothing: pageable memory is copied aside before the call returns.
        return values.to(self._device, non_blocking=True)


def _padded(head: Tensor, columns: Sequence[int]) -> Tensor:
    """As many rows as fill tiles of any of these sizes."""
    return F.pad(head, (0, 0, 0, -len(head) % math.lcm(*columns)))
