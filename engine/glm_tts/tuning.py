"""How the decode kernels are cut up. None of it changes a number that they give."""

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


class Tiles(Struct, frozen=True, kw_only=True):
    """Of a step's products, for batches of one size."""

    most: int
    """The largest batch that they are for."""
    rows: int
    """Of the batch in one program: 16 or 32, for the tensor core instruction that both share."""
    qkv: Tile
    attention_out: Tile
    gate_up: Tile
    down: Tile
    head: Tile


class Tuning(Struct, frozen=True, kw_only=True):
    """Of a whole step."""

    tiles: tuple[Tiles, ...] = (
        Tiles(
            most=16,
            rows=16,
            qkv=Tile(32, 256, 4, 4),
            attention_out=Tile(16, 256, 4, 5),
            gate_up=Tile(16, 128, 4, 4),
            down=Tile(16, 256, 4, 5),
            head=Tile(64, 128, 4, 3),
        ),
        Tiles(
            most=32,
            rows=32,
            qkv=Tile(16, 256, 2, 4),
            attention_out=Tile(16, 256, 4, 5),
            gate_up=Tile(16, 128, 4, 4),
            down=Tile(16, 256, 4, 5),
            head=Tile(64, 128, 4, 3),
        ),
        Tiles(
            most=1 << 16,
            rows=32,
            qkv=Tile(64, 64, 4, 6),
            attention_out=Tile(32, 256, 4, 4),
            gate_up=Tile(64, 128, 4, 3),
            down=Tile(16, 256, 2, 4),
            head=Tile(64, 128, 4, 3),
        ),
    )
    """By `most`, ascending."""
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)
    """Sizes that a step is recorded for, as far as there are slots; others are filled up."""
    split: int = 128
    """Tokens that one program attends to. This one does change how sums round."""
    split_block: int = 64
    """Of these at a time. Likewise."""
    chunk: int = 2048
    """Scores that one program of the sampler looks at."""
    prefetch: int = 0
    """Values of each row of a matrix that are asked for before its input is there; 0, or a power
    of two and a multiple of 64."""
    is_overlapped: bool = False
    """Kernels are set up while the one before still runs (programmatic dependent launch)."""

    def options(self, warps: int, stages: int) -> dict[str, int | bool]:
        """That a kernel is launched with."""
        return {
            "PDL": self.is_overlapped,
            "launch_pdl": self.is_overlapped,
            "num_warps": warps,
            "num_stages": stages,
        }

    def tiles_for(self, rows: int) -> Tiles:
        return next(tiles for tiles in self.tiles if rows <= tiles.most)

    def fits(self, dims: LlmDims) -> bool:
        """The kernels have no code for what is left over of a tile."""
        queries = dims.heads * dims.head_dim
        width = queries + 2 * dims.kv_heads * dims.head_dim
        return dims.head_dim in (32, 64, 128, 256) and all(
            outputs % tile.columns == 0 and inputs % tile.depth == 0
            for tiles in self.tiles
            for tile, outputs, inputs in (
                (tiles.qkv, width, dims.hidden),
                (tiles.attention_out, dims.hidden, queries),
                (tiles.gate_up, dims.intermediate, dims.hidden),
                (tiles.down, dims.hidden, dims.intermediate),
                (tiles.head, tiles.head.columns, dims.hidden),
            )
        )
