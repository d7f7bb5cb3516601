"""Reading prompts on CUDA: all that begin together in one pass, one behind the other.

A pass is one graph, recorded for a few numbers of rows. What it reads is a plan on the device:

```
prompts --cut--> Part, ... (up to a pass's rows) --one copy--> Plan --graph--> slots' memory, scores
```
A prompt that a pass cuts in two goes on in the next: attention reads all from the slot's memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import triton
from msgspec import Struct
from torch import Tensor

from engine.glm_tts import prefill_kernels
from engine.glm_tts.llm import Layer, Llm
from engine.glm_tts.model_memory import GraphRoom
from engine.glm_tts.quantized import Matrix, Quantized
from engine.glm_tts.slot_memory import SlotMemory
from engine.glm_tts.tuning import Tile

_LOG2_E = math.log2(math.e)


class PrefillTiles(Struct, frozen=True, kw_only=True):
    """Of a pass's products. Rows are 64 a warpgroup of four warps."""

    most: int
    """The largest pass that they are for, in rows."""
    rows: int
    """Of one program."""
    qkv: Tile
    attention_out: Tile
    gate_up: Tile
    down: Tile


class PrefillTuning(Struct, frozen=True, kw_only=True):
    """How the kernels of a pass are cut up. Only `attention` changes how sums round."""

    passes: tuple[int, ...] = (256, 512, 1024)
    """Rows that a pass is recorded for, multiples of all tiles' rows; fewer cost what they are."""
    tiles: tuple[PrefillTiles, ...] = (
        PrefillTiles(
            most=512,
            rows=64,
            qkv=Tile(64, 64, 4, 5),
            attention_out=Tile(64, 64, 4, 6),
            gate_up=Tile(64, 64, 4, 3),
            down=Tile(64, 64, 4, 6),
        ),
        PrefillTiles(
            most=1 << 16,
            rows=128,
            qkv=Tile(128, 64, 8, 3),
            attention_out=Tile(128, 64, 8, 4),
            gate_up=Tile(128, 64, 8, 4),
            down=Tile(128, 64, 8, 4),
        ),
    )
    """By `most`, ascending."""
    head: Tile = Tile(64, 128, 4, 4)
    """With 64 rows."""
    attention: Tile = Tile(64, 64, 4, 2)
    """Queries, keys, warps and stages."""

    def tiles_for(self, rows: int) -> PrefillTiles:
        return next(tiles for tiles in self.tiles if rows <= tiles.most)


_HEAD_ROWS = 64


class Part(NamedTuple):
    """Of a prompt: what a pass reads of it."""

    prompt: int
    first: int
    """Its position."""
    rows: int


class Plan(NamedTuple):
    """Views of one int32 tensor; see `prefill_kernels`."""

    ids: Tensor
    """[R], of the vocabulary."""
    slots: Tensor
    positions: Tensor
    tiles: Tensor
    """[., 4]: what each program of the attention reads."""
    lasts: Tensor
    """[prompts]"""
    total: Tensor
    """[1]: rows."""

    @classmethod
    def over(cls, values: Tensor, rows: int, prompts: int) -> Plan:
        tiles = (len(values) - 3 * rows - prompts - 1) // 4
        sizes = [rows, rows, rows, 4 * tiles, prompts, 1]
        ids, slots, positions, parts, lasts, total = values.split_with_sizes(sizes)
        return cls(ids, slots, positions, parts.view(tiles, 4), lasts, total)


def cut(lengths: Sequence[int], rows: int) -> Iterator[list[Part]]:
    """Prompts as passes of up to so many rows."""
    parts: list[Part] = []
    room = rows
    for prompt, length in enumerate(lengths):
        first = 0
        while first < length:
            taken = min(room, length - first)
            parts.append(Part(prompt, first, taken))
            first, room = first + taken, room - taken
            if not room:
                yield parts
                parts, room = [], rows
    if parts:
        yield parts


class CudaPrefill:
    """Reads prompts. Worker's loop only; waits for nothing.

    Every tensor that a pass touches stays where it is: graphs know them by address.

    Args:
        llm: With its norms folded.
        head: [C, hidden], a whole number of 16 rows.
        memory: Written to. Its last slot is the spare one.
        scores: [prompts, C] float32, written to: as many as can be read at once.
        tuning: Of the kernels.
    """

    def __init__(
        self,
        llm: Llm,
        head: Tensor,
        memory: SlotMemory,
        scores: Tensor,
        tuning: PrefillTuning,
    ) -> None:
        self._llm = llm
        self._head = head
        self._memory = memory
        self._scores = scores
        self._tuning = tuning
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._device = llm.embedding.device
        self._rows = tuning.passes[-1]
        self._reserve(self._rows, len(scores))

    def record(self, room: GraphRoom) -> None:
        """Compile all kernels, and make the graphs; with no job in hand.

        Before, and where it is never called, each kernel is launched by itself.
        """
        self._send([], [], [])
        for rows in self._tuning.passes:
            self._launch(rows)  # compiles what is new: that cannot be recorded
        torch.cuda.synchronize(self._device)
        for rows in self._tuning.passes:
            self._graphs[rows] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graphs[rows], pool=room.pool, stream=room.stream):
                self._launch(rows)

    def read(self, prompts: Sequence[Tensor], slots: Sequence[int]) -> None:
        """Read prompts from position 0, and leave the scores after the last token of each.

        Args:
            prompts: int64 [T] each, of the vocabulary, on the host.
            slots: Of each; they have their memory already.
        """
        for parts in cut([len(prompt) for prompt in prompts], self._rows):
            self._send(parts, prompts, slots)
            count = sum(part.rows for part in parts)
            rows = next(size for size in self._tuning.passes if size >= count)
            if self._graphs:
                self._graphs[rows].replay()
            else:
                self._launch(rows)

    def _reserve(self, rows: int, prompts: int) -> None:
        """What passes from kernel to kernel; one for all passes."""
        dims, dtype = self._llm.dims, self._llm.dtype
        queries = dims.heads * dims.head_dim

        def reserve(*shape: int, of: torch.dtype = dtype) -> Tensor:
            return torch.zeros(shape, dtype=of, device=self._device)

        self._x = reserve(rows, dims.hidden, of=torch.float32)
        self._half = reserve(rows, dims.hidden)
        self._squares = reserve(2 * dims.layers + 1, rows, of=torch.int64)
        self._q = reserve(rows, queries)
        self._seen = reserve(rows, queries)
        self._inner = reserve(rows, dims.intermediate)
        quantized = (each for layer in self._llm.layers for each in layer)
        sizes = [each.weight.numel() for each in quantized if isinstance(each, Quantized)]
        self._integers = reserve(max(sizes, default=0))
        numbers = 3 * rows + 4 * self._attention_tiles(rows) + prompts + 1
        self._sent = reserve(numbers, of=torch.int32)
        self._plan = Plan.over(self._sent, rows, prompts)

    def _attention_tiles(self, rows: int) -> int:
        """The most that so many rows can have: each part may begin one and leave it unfilled."""
        return rows // self._tuning.attention.columns + min(len(self._scores), rows)

    def _send(self, parts: Sequence[Part], prompts: Sequence[Tensor], slots: Sequence[int]) -> None:
        """Tell the device what the next pass reads."""
        is_cuda = self._device.type == "cuda"
        # A new one each time: torch keeps it from others until it is copied.
        values = torch.zeros(len(self._sent), dtype=torch.int32, pin_memory=is_cuda)
        plan = Plan.over(values, self._rows, len(self._scores))
        plan.slots.fill_(len(self._memory.places) - 1)
        plan.lasts.fill_(-1)
        tiles: list[tuple[int, int, int, int]] = []
        row, tile = 0, self._tuning.attention.columns
        for prompt, first, rows in parts:
            slot, end = slots[prompt], first + rows
            plan.ids[row : row + rows] = prompts[prompt][first:end]
            plan.slots[row : row + rows] = slot
            plan.positions[row : row + rows] = torch.arange(first, end)
            tiles += (
                (row + at, min(tile, rows - at), slot, first + at) for at in range(0, rows, tile)
            )
            row += rows
            if end == len(prompts[prompt]):
                plan.lasts[prompt] = row - 1
        if tiles:
            plan.tiles[: len(tiles)] = torch.tensor(tiles)
        plan.total.fill_(row)
        self._sent.copy_(values, non_blocking=True)

    def _launch(self, rows: int) -> None:
        """The planned pass; at most so many rows."""
        tiles = self._tuning.tiles_for(rows)
        self._embed(rows)
        for index, layer in enumerate(self._llm.layers):
            self._norm_qkv(rows, tiles, index, layer)
            self._attend(rows, index)
            site = 2 * index + 1
            self._linear_add(
                rows, tiles, tiles.attention_out, self._seen, layer.attention_out, site
            )
            self._norm_swiglu(rows, tiles, site, layer.gate_up)
            self._linear_add(rows, tiles, tiles.down, self._inner, layer.down, site + 1)
        self._norm_head()

    def _embed(self, rows: int) -> None:
        hidden, sites = self._llm.dims.hidden, len(self._squares)
        prefill_kernels.embed[(rows,)](
            self._llm.embedding, self._plan.ids, self._x, self._half, self._squares,
            N=hidden, SITES=sites, STRIDE=self._rows,
            BLOCK=triton.next_power_of_2(hidden), SITE_BLOCK=triton.next_power_of_2(sites),
        )  # fmt: skip

    def _norm_qkv(self, rows: int, tiles: PrefillTiles, index: int, layer: Layer) -> None:
        llm, memory, plan, dims = self._llm, self._memory, self._plan, self._llm.dims
        weight, scales = self._stored(layer.qkv)
        columns, depth = weight.shape
        tile = _dividing(tiles.qkv, columns, depth)
        prefill_kernels.norm_qkv[_grid(rows, tiles.rows, columns, tile)](
            self._half, self._squares[2 * index], weight, scales, llm.cos, llm.sin,
            memory.origin, memory.places, memory.rooms,
            plan.slots, plan.positions, plan.total, self._q, index, depth, dims.norm_eps,
            HEADS=dims.heads, KV_HEADS=dims.kv_heads, D=dims.head_dim, UNIT=memory.unit,
            **_options(tiles.rows, tile),
        )  # fmt: skip

    def _attend(self, rows: int, index: int) -> None:
        dims, memory, tile = self._llm.dims, self._memory, self._tuning.attention
        prefill_kernels.attend[(self._attention_tiles(rows), dims.heads)](
            self._q, memory.origin, memory.places, memory.rooms, self._plan.tiles, self._seen,
            index, _LOG2_E * dims.head_dim**-0.5,
            HEADS=dims.heads, KV_HEADS=dims.kv_heads, D=dims.head_dim, UNIT=memory.unit,
            ROWS=tile.columns, BLOCK=tile.depth, num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip

    def _linear_add(
        self, rows: int, tiles: PrefillTiles, tile: Tile, inputs: Tensor, matrix: Matrix, site: int
    ) -> None:
        weight, scales = self._stored(matrix)
        columns, depth = weight.shape
        tile = _dividing(tile, columns, depth)
        prefill_kernels.linear_add[_grid(rows, tiles.rows, columns, tile)](
            inputs, weight, scales, self._x, self._half, self._squares[site], self._plan.total,
            columns, depth, **_options(tiles.rows, tile),
        )  # fmt: skip

    def _norm_swiglu(self, rows: int, tiles: PrefillTiles, site: int, matrix: Matrix) -> None:
        weight, scales = self._stored(matrix)
        columns, depth = self._inner.shape[1], weight.shape[1]
        tile = _dividing(tiles.gate_up, columns, depth)
        prefill_kernels.norm_swiglu[_grid(rows, tiles.rows, columns, tile)](
            self._half, self._squares[site], weight, scales, self._inner, self._plan.total,
            columns, depth, self._llm.dims.norm_eps, **_options(tiles.rows, tile),
        )  # fmt: skip

    def _stored(self, matrix: Matrix) -> tuple[Tensor, Tensor | None]:
        """Values and scales, as the kernels take them; until the next call."""
        if not isinstance(matrix, Quantized):
            return matrix, None
        # Exact: all of int8 is in bfloat16. Turned in the product, each program would do it again.
        values = self._integers[: matrix.weight.numel()].view(matrix.weight.shape)
        return values.copy_(matrix.weight), matrix.scale

    def _norm_head(self) -> None:
        columns, depth = self._head.shape
        prompts = len(self._scores)
        tile = _dividing(self._tuning.head, columns, depth)
        grid = -(-prompts // _HEAD_ROWS), columns // tile.columns
        prefill_kernels.norm_head[grid](
            self._half, self._squares[-1], self._head, self._plan.lasts, self._scores,
            prompts, columns, depth, self._llm.dims.norm_eps, **_options(_HEAD_ROWS, tile),
        )  # fmt: skip


def _dividing(tile: Tile, columns: int, depth: int) -> Tile:
    """As much of a tile as has nothing left over: kernels have no code for that."""
    return tile._replace(columns=math.gcd(tile.columns, columns), depth=math.gcd(tile.depth, depth))


def _grid(rows: int, tile_rows: int, columns: int, tile: Tile) -> tuple[int, int]:
    # Rows first: programs that read the same weights run at the same time.
    return rows // tile_rows, columns // tile.columns


def _options(rows: int, tile: Tile) -> dict[str, int]:
    return {
        "ROWS": rows,
        "COLUMNS": tile.columns,
        "DEPTH": tile.depth,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }
