"""Drawing tokens on CUDA: a step is one graph, recorded for a few sizes of the batch.

A job's tokens are the same bits whatever is beside it: `kernels` sees to it in a step, and
`prefill_kernels` where prompts are read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812  its name everywhere
import triton
from torch import Tensor

from engine.glm_tts import attention_kernels, kernels
from engine.glm_tts.cuda_prefill import CudaPrefill, PrefillTuning
from engine.glm_tts.cuda_sampler import CudaSampler
from engine.glm_tts.llm import Llm
from engine.glm_tts.model_memory import GraphRoom
from engine.glm_tts.quantized import Matrix, Quantized
from engine.glm_tts.slot_memory import SlotMemory
from engine.glm_tts.slot_states import WINDOW_MAX, SlotStates
from engine.glm_tts.tuning import StepTile, Tuning

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
        prefill_tuning: Of those that read prompts.
    """

    def __init__(
        self,
        llm: Llm,
        states: SlotStates,
        tokens: int,
        tuning: Tuning | None = None,
        prefill_tuning: PrefillTuning | None = None,
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
        self._prefill = CudaPrefill(
            llm, self._head, self.memory, self._sampler.scores, prefill_tuning or PrefillTuning()
        )  # fmt: skip

    def reserve(self, slot: int) -> None:
        self.memory.fill(slot)

    def forget_slots(self) -> None:
        self.memory.clear()

    @torch.inference_mode()
    def record(self, room: GraphRoom) -> None:
        """Before, and where it is never called, each kernel is launched by itself."""
        self._slots.fill_(self._spare)
        for rows in self._batches:
            self._launch(rows)  # compiles what is new: that cannot be recorded
        torch.cuda.synchronize(self._device)
        for rows in reversed(self._batches):
            self._graphs[rows] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graphs[rows], pool=room.pool, stream=room.stream):
                self._launch(rows)
        self._prefill.record(room)

    def prefill(self, prompts: Sequence[Tensor], slots: Sequence[int]) -> Tensor:
        self._prefill.read(prompts, slots)
        lengths = [len(prompt) for prompt in prompts]
        index, starts = self._to_device(torch.tensor([[*slots], lengths]))
        self._starts[index] = starts
        self._slots[: len(slots)] = index
        self._sampler.launch(len(slots), self._slots)
        return self._sampler.tokens[: len(slots)].clone()

    def step(self, slots: Sequence[int], count: int) -> Tensor:
        rows = next(size for size in self._batches if size >= len(slots))
        filled_up = [*slots, *[self._spare] * (rows - len(slots))]
        self._slots[:rows] = self._to_device(torch.tensor(filled_up))
        for _ in range(count):
            if self._graphs:
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
        self._sharing = triton.next_power_of_2(dims.heads // dims.kv_heads)
        left = rows * dims.kv_heads * self._splits * self._sharing
        widest = max(width, 2 * dims.intermediate)

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
        self._sums = reserve(left, dims.head_dim)
        self._peaks = reserve(left, 2)
        parts = self._tuning.parts
        most = max(parts.qkv, parts.attention_out, parts.gate_up, parts.down)
        self._partials = reserve(most, rows, widest)
        # As many as the smallest tiles would need; more than attention does.
        self._arrived = reserve(rows * widest // _TILE_ROWS, of=torch.int32)

    def _launch(self, rows: int) -> None:
        """One step of the first rows of `_slots`."""
        tiles, parts, layers = self._tuning.tiles_for(rows), self._tuning.parts, self._llm.layers
        self._embed(rows)
        for index, layer in enumerate(layers):
            site = 2 * index
            self._norm_linear(rows, tiles.qkv, parts.qkv, site, layer.qkv, self._qkv)
            self._attend(rows, tiles.spread, index)
            self._linear_add(
                rows, tiles.attention_out, parts.attention_out, self._seen, layer.attention_out,
                site + 1, asks=True,
            )  # fmt: skip
            self._norm_swiglu(rows, tiles.gate_up, parts.gate_up, site + 1, layer.gate_up)
            self._linear_add(rows, tiles.down, parts.down, self._inner, layer.down, site + 2)
        scores = self._sampler.scores
        self._norm_linear(rows, tiles.head, 1, 2 * len(layers), self._head, scores)
        self._sampler.launch(rows, self._slots)

    def _embed(self, rows: int) -> None:
        sites, stride = self._squares.shape
        hidden = self._llm.dims.hidden
        kernels.embed[(rows,)](
            self._llm.embedding, self._llm.column_ids, self._states.history, self._slots,
            self._x, self._half, self._squares,
            WINDOW=WINDOW_MAX, N=hidden, SITES=sites, STRIDE=stride,
            BLOCK=triton.next_power_of_2(hidden), SITE_BLOCK=triton.next_power_of_2(sites),
            **self._tuning.options(rows, 4, 1),
        )  # fmt: skip

    def _norm_linear(
        self, rows: int, tile: StepTile, parts: int, site: int, matrix: Matrix, out: Tensor
    ) -> None:
        kernels.norm_linear[_grid(rows, tile, parts, out.shape[1])](
            self._half, *_stored(matrix), self._squares[site], out,
            self._partials, self._arrived, rows, self._llm.dims.norm_eps,
            N=out.shape[1], K=self._half.shape[1], **self._options(rows, tile, parts),
        )  # fmt: skip

    def _norm_swiglu(
        self, rows: int, tile: StepTile, parts: int, site: int, matrix: Matrix
    ) -> None:
        columns = self._inner.shape[1]
        kernels.norm_swiglu[_grid(rows, tile, parts, columns)](
            self._half, *_stored(matrix), self._squares[site], self._inner,
            self._partials, self._arrived, rows, self._llm.dims.norm_eps,
            N=columns, K=self._half.shape[1], **self._options(rows, tile, parts),
        )  # fmt: skip

    def _linear_add(
        self, rows: int, tile: StepTile, parts: int, inputs: Tensor, matrix: Matrix, site: int,
        *, asks: bool = False,
    ) -> None:  # fmt: skip
        columns = self._x.shape[1]
        kernels.linear_add[_grid(rows, tile, parts, columns)](
            inputs, *_stored(matrix), self._x, self._half, self._squares[site],
            self._partials, self._arrived, rows,
            N=columns, K=inputs.shape[1], ASKS=asks and rows <= self._tuning.overlapped,
            **self._options(rows, tile, parts),
        )  # fmt: skip

    def _attend(self, rows: int, spread: int, layer: int) -> None:
        dims, memory, tuning = self._llm.dims, self.memory, self._tuning
        attention_kernels.attend[(rows, dims.kv_heads, min(spread, self._splits))](
            self._qkv, self._llm.cos, self._llm.sin,
            memory.origin, memory.places, memory.rooms,
            self._slots, self._starts, self._states.drawn,
            self._sums, self._peaks, self._arrived, self._seen,
            layer, dims.head_dim**-0.5,
            HEADS=dims.heads, KV_HEADS=dims.kv_heads, D=dims.head_dim, UNIT=memory.unit,
            SPLITS=self._splits, SPLIT=tuning.split, GROUP=max(_TILE_ROWS, self._sharing),
            SHARING=self._sharing, IS_APART=spread >= self._splits,
            **tuning.options(rows, tuning.split_warps, tuning.split_stages),
        )  # fmt: skip

    def _options(self, rows: int, tile: StepTile, parts: int) -> dict[str, int | bool]:
        return {
            "ROWS": tile.rows,
            "COLUMNS": tile.columns,
            "DEPTH": tile.depth,
            "PARTS": parts,
            "IS_APART": tile.is_apart,
            # Whether a product and a sum round as one would depend on the tile.
            "enable_fp_fusion": False,
            **self._tuning.options(rows, tile.warps, tile.stages),
        }

    def _to_device(self, values: Tensor) -> Tensor:
        # Waits for nothing: pageable memory is copied aside before the call returns.
        return values.to(self._device, non_blocking=True)


def _grid(rows: int, tile: StepTile, parts: int, columns: int) -> tuple[int, int, int]:
    # Rows first: programs that read the same weights run at the same time.
    return -(-rows // tile.rows), columns // tile.columns, parts if tile.is_apart else 1


def _stored(matrix: Matrix) -> tuple[Tensor, Tensor | None]:
    """Values and scales, as kernels take them."""
    return matrix if isinstance(matrix, Quantized) else (matrix, None)


def _padded(head: Tensor, columns: Sequence[int]) -> Tensor:
    """As many rows as fill tiles of any of these sizes."""
    return F.pad(head, (0, 0, 0, -len(head) % math.lcm(*columns)))
