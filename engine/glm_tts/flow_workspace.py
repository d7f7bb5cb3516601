"""The tensors that one solve of the flow reads and writes, at addresses that do not change.

A solve has R rows, its clips' frames one clip behind the other:

```
rows     clip 0 ........ | gap | clip 1 ..... | gap | surplus, up to R
first    0                      a multiple of ALIGNMENT
```
What is computed of gap and surplus means nothing and reaches no clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from engine.glm_tts.dims import FlowDims
from engine.glm_tts.flow import FRAMES_PER_TOKEN, FlowInput, condition_of
from engine.glm_tts.token_branch import tokens_of_frames

MOST_CLIPS = 32
"""In one solve."""
TILE = 64
"""Frames of one clip that a program works on where frames see each other."""
ALIGNMENT = 4
"""Rows; so many from a multiple of it on are never two clips'."""

_Shapes: TypeAlias = dict[str, tuple[torch.dtype, tuple[int, ...]]]


def span(frames: int) -> int:
    """Rows that a clip of so many frames takes: at least a tile, so that R bounds the tiles."""
    return max(TILE, -(-frames // ALIGNMENT) * ALIGNMENT)


class Tables(NamedTuple):
    """Which row is whose; C are MOST_CLIPS. One upload."""

    token: Tensor
    """int32 [R]: of all clips' tokens, behind each other, the row's; 0 where there is no clip."""
    clip: Tensor
    """int32 [R]: whose the row is; 0 where there is no clip."""
    first: Tensor
    """int32 [C]: a clip's first row."""
    length: Tensor
    """int32 [C]: its frames; 0 for no clip."""
    pinned: Tensor
    """int32 [C]: how many of them are pinned, from the first on."""
    tiles: Tensor
    """int32 [tiles, 2]: a clip, and the tile's first frame in it; beyond its end for no tile."""
    pull: Tensor
    """float32 [S, 2]: how far a step follows the guided velocity and the free one."""

    @classmethod
    def size(cls, rows: int, steps: int) -> int:
        """Numbers in all."""
        return sum(_table_sizes(rows, steps))

    @classmethod
    def over(cls, memory: Tensor, rows: int, steps: int) -> Tables:
        """Views of int32 memory of that size."""
        parts = torch.split(memory, _table_sizes(rows, steps))
        token, clip, first, length, pinned, tiles, pull = parts
        return cls(
            token, clip, first, length, pinned,
            tiles=tiles.view(-1, 2), pull=pull.view(torch.float32).view(-1, 2),
        )  # fmt: skip


class Workspace(NamedTuple):
    """All that a solve of R rows in up to S steps reads and writes."""

    # Given for each solve.
    memory: Tensor
    """int32: of the tables."""
    tables: Tables
    tokens: Tensor
    """int64 [R], each frame's."""
    places: Tensor
    """int64 [R]: where in its speech."""
    limits: Tensor
    """int64 [R], at least 1: a frame attends to those of its clip before its limit."""
    condition: Tensor
    """float32 [R, 80]."""
    speakers: Tensor
    """float32 [C + 1, 192], of any length; the last is zero: no speaker."""
    by_time: Tensor
    """float32 [S, K, W]: the modulation that each step's time makes."""
    path: Tensor
    """float32 [S, R, 80]: given where frames are pinned; then x before each step."""
    x: Tensor
    """float32 [R, 80]: noise, then mel."""
    now: Tensor
    """int64 [1]: the step that comes next, from 0."""
    # Made by `prepare`: the first half with prompt and speaker, then the one without.
    inputs: Tensor
    """float32 [2, R, W]: the input projection but for x's part of it."""
    cosines: Tensor
    """float32 [R, D / 2]."""
    sines: Tensor
    """Likewise."""
    by_speaker: Tensor
    """float32 [C + 1, K, W]: the speaker's part of the modulation."""
    # Made by each step.
    turns: Tensor
    """float32 [C + 1, K, W]: its modulation."""


class Arena:
    """Memory for workspaces of up to so many rows, of which one is in use at a time.

    Args:
        dims: Sizes.
        rows: Of the largest, a multiple of ALIGNMENT.
        steps: Of a solve, at most.
        device: Where.
    """

    def __init__(self, dims: FlowDims, rows: int, steps: int, device: torch.device) -> None:
        self._dims = dims
        self._steps = steps
        self._memory = {
            name: torch.zeros(math.prod(shape), dtype=dtype, device=device)
            for name, (dtype, shape) in _shapes(dims, rows, steps).items()
        }
        # What stands in the gaps, and for what a clip has not.
        self._nothing = torch.zeros(rows, dims.mels, device=device)
        self._count = torch.arange(rows, device=device)
        self._unlimited = torch.full((rows,), rows, device=device)

    def workspace(self, rows: int) -> Workspace:
        """One of no more rows than the arena was made for."""
        shapes = _shapes(self._dims, rows, self._steps)
        views = {
            name: self._memory[name][: math.prod(shape)].view(shape)
            for name, (_, shape) in shapes.items()
        }
        return Workspace(tables=Tables.over(views["memory"], rows, self._steps), **views)

    def give(
        self, work: Workspace, clips: Sequence[FlowInput], by_time: Tensor, pull: Tensor
    ) -> list[slice]:
        """Write down what to solve.

        Args:
            work: One of this arena's.
            clips: MOST_CLIPS at most, of as many rows as it has at most.
            by_time: float32 [steps, K, W].
            pull: float32 [steps, 2], on the host.
        Returns:
            Each clip's rows.
        """
        lengths = [len(clip.noise) for clip in clips]
        spans = [span(frames) for frames in lengths]
        owned = [
            slice(end - size, end - size + frames)
            for end, size, frames in zip(accumulate(spans), spans, lengths, strict=True)
        ]
        steps = len(pull)
        work.memory.copy_(self._filled_in(clips, owned, pull, len(work.x)), non_blocking=True)
        tokens = torch.cat([clip.tokens for clip in clips])
        torch.index_select(tokens, 0, work.tables.token, out=work.tokens)
        _lay(work.x, [clip.noise for clip in clips], spans, self._nothing)
        _lay(work.condition, [condition_of(clip) for clip in clips], spans, self._nothing)
        _lay(work.places, _given([clip.places for clip in clips], lengths, self._count), spans,
             self._count)  # fmt: skip
        _lay(work.limits, _given([clip.limits for clip in clips], lengths, self._unlimited), spans,
             self._unlimited)  # fmt: skip
        torch.stack([clip.speaker for clip in clips], out=work.speakers[: len(clips)])
        work.by_time[:steps] = by_time
        for clip, rows in zip(clips, owned, strict=True):
            if clip.pinned is not None:
                known = clip.pinned[:, : rows.stop - rows.start]
                work.path[:steps, rows.start : rows.start + known.shape[1]] = known
        return owned

    def _filled_in(
        self, clips: Sequence[FlowInput], owned: Sequence[slice], pull: Tensor, rows: int
    ) -> Tensor:
        """The tables' memory, on the host."""
        is_pinned = self._nothing.is_cuda
        memory = torch.zeros(
            Tables.size(rows, self._steps), dtype=torch.int32, pin_memory=is_pinned
        )
        tables = Tables.over(memory, rows, self._steps)
        # No tile begins beyond the last row.
        tables.tiles[:, 1] = rows
        tiles = []
        known = 0
        for index, (clip, own) in enumerate(zip(clips, owned, strict=True)):
            frames, tokens = own.stop - own.start, len(clip.tokens)
            assert frames <= FRAMES_PER_TOKEN * tokens, (frames, tokens)
            assert clip.pinned is None or len(clip.pinned) == len(pull), "pinned for other steps"
            tables.token[own] = tokens_of_frames(tokens, frames) + known
            # With the gap behind it.
            tables.clip[own.start : own.start + span(frames)] = index
            tiles += [(index, place) for place in range(0, frames, TILE)]
            known += tokens
        count = len(clips)
        tables.first[:count] = torch.tensor([own.start for own in owned])
        tables.length[:count] = torch.tensor([own.stop - own.start for own in owned])
        tables.pinned[:count] = torch.tensor(
            [0 if clip.pinned is None else clip.pinned.shape[1] for clip in clips]
        )
        tables.tiles[: len(tiles)] = torch.tensor(tiles)
        tables.pull[: len(pull)] = pull
        return memory


def _table_sizes(rows: int, steps: int) -> list[int]:
    tiles = rows // TILE + min(MOST_CLIPS, rows // TILE)
    # An even number: kernels are compiled for tables at multiples of 16 bytes.
    tiles += tiles % 2
    return [rows, rows, MOST_CLIPS, MOST_CLIPS, MOST_CLIPS, 2 * tiles, 2 * steps]


def _shapes(dims: FlowDims, rows: int, steps: int) -> _Shapes:
    modulations = (6 * dims.depth + 2, dims.width)
    exact, half = torch.float32, dims.head_dim // 2
    return {
        "memory": (torch.int32, (Tables.size(rows, steps),)),
        "tokens": (torch.int64, (rows,)),
        "places": (torch.int64, (rows,)),
        "limits": (torch.int64, (rows,)),
        "condition": (exact, (rows, dims.mels)),
        "speakers": (exact, (MOST_CLIPS + 1, dims.speaker)),
        "by_time": (exact, (steps, *modulations)),
        "path": (exact, (steps, rows, dims.mels)),
        "x": (exact, (rows, dims.mels)),
        "now": (torch.int64, (1,)),
        "inputs": (exact, (2, rows, dims.width)),
        "cosines": (exact, (rows, half)),
        "sines": (exact, (rows, half)),
        "by_speaker": (exact, (MOST_CLIPS + 1, *modulations)),
        "turns": (exact, (MOST_CLIPS + 1, *modulations)),
    }


def _given(parts: Sequence[Tensor | None], lengths: Sequence[int], usual: Tensor) -> list[Tensor]:
    """Each clip's own, or the beginning of what is usual."""
    return [
        usual[:frames] if part is None else part
        for part, frames in zip(parts, lengths, strict=True)
    ]


def _lay(out: Tensor, parts: Sequence[Tensor], spans: Sequence[int], gap: Tensor) -> None:
    """Put [n, ...] each behind the other, each filled up to its span."""
    pieces = []
    for part, rows in zip(parts, spans, strict=True):
        pieces += [part, gap[: rows - len(part)]]
    torch.cat(pieces, out=out[: sum(spans)])
