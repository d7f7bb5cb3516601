"""How the decode kernels are cut up: nothing that changes a number depends on the batch."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from engine.glm_tts.dims import LlmDims


class Tile(NamedTuple):
    """What one program of a matrix product does at a time."""

    columns: int
    """Rows of the matrix, which are columns of the product."""
    depth: int
    """Of each, along the sum."""
    warps: int
    stages: int
    """Loads in flight, in tiles."""


class StepTile(NamedTuple):
    """The same in a step, where a sum may have parts; see `kernels`."""

    rows: int
    """Of the batch: 16 or 32, or 64 where parts are together."""
    columns: int
    depth: int
    """Of each part, where they are together."""
    warps: int
    """No more than parts, where they are together: others would repeat the work."""
    stages: int
    is_apart: bool = False
    """Each part has a program of its own."""


class Tiles(Struct, frozen=True, kw_only=True):
    """Of a step, for batches of one size."""

    most: int
    """The largest batch that they are for."""
    spread: int
    """Programs, at most, that share the attention of a row and head."""
    qkv: StepTile
    attention_out: StepTile
    gate_up: StepTile
    down: StepTile
    head: StepTile


class Parts(Struct, frozen=True, kw_only=True):
    """That each sum has: 1, 2 or 4. The head's have one."""

    qkv: int = 4
    attention_out: int = 4
    gate_up: int = 1
    down: int = 4


class Tuning(Struct, frozen=True, kw_only=True):
    """Of a whole step."""

    parts: Parts = Parts()
    """Changes how sums round."""
    tiles: tuple[Tiles, ...] = (
        Tiles(
            most=16,
            spread=64,
            qkv=StepTile(16, 32, 64, 4, 5),
            attention_out=StepTile(16, 16, 64, 4, 9),
            gate_up=StepTile(16, 16, 128, 4, 4),
            down=StepTile(16, 16, 64, 4, 9),
            head=StepTile(16, 64, 128, 4, 3),
        ),
        Tiles(
            most=32,
            spread=2,
            qkv=StepTile(32, 32, 64, 4, 4),
            attention_out=StepTile(32, 16, 64, 4, 4),
            gate_up=StepTile(32, 16, 128, 4, 4),
            down=StepTile(32, 32, 128, 4, 4, is_apart=True),
            head=StepTile(32, 64, 128, 4, 3),
        ),
        Tiles(
            most=1 << 16,
            spread=1,
            qkv=StepTile(64, 32, 64, 4, 3),
            attention_out=StepTile(32, 32, 64, 4, 3),
            gate_up=StepTile(32, 64, 128, 4, 3),
            down=StepTile(32, 64, 128, 4, 3, is_apart=True),
            head=StepTile(32, 64, 128, 4, 3),
        ),
    )
    """By `most`, ascending. Changes no number."""
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)
    """Sizes that a step is recorded for, as far as there are slots; others are filled up."""
    split: int = 64
    """Tokens that are attended to at a time. Changes how sums round."""
    split_warps: int = 4
    """Likewise."""
    split_stages: int = 3
    chunk: int = 2048
    """Scores that one program of the sampler looks at."""
    overlapped: int = 16
    """In steps of up to so many, kernels are set up while the one before still runs (programmatic
    dependent launch)."""

    def options(self, rows: int, warps: int, stages: int) -> dict[str, int | bool]:
        """That a kernel of a step of so many is launched with."""
        is_overlapped = rows <= self.overlapped
        return {
            "PDL": is_overlapped,
            "launch_pdl": is_overlapped,
            "num_warps": warps,
            "num_stages": stages,
        }

    def tiles_for(self, rows: int) -> Tiles:
        return next(tiles for tiles in self.tiles if rows <= tiles.most)

    def fits(self, dims: LlmDims) -> bool:
        """The kernels have no code for what is left over of a tile."""
        queries = dims.heads * dims.head_dim
        width = queries + 2 * dims.kv_heads * dims.head_dim
        parts = self.parts
        return dims.head_dim in (32, 64, 128, 256) and all(
            outputs % tile.columns == 0 and inputs % (tile.depth * count) == 0
            for tiles in self.tiles
            for tile, count, outputs, inputs in (
                (tiles.qkv, parts.qkv, width, dims.hidden),
                (tiles.attention_out, parts.attention_out, dims.hidden, queries),
                (tiles.gate_up, parts.gate_up, dims.intermediate, dims.hidden),
                (tiles.down, parts.down, dims.hidden, dims.intermediate),
                (tiles.head, 1, tiles.head.columns, dims.hidden),
            )
        )
