"""Where a solver's step begins and ends, as Triton kernels; `flow_kernels` has what is between."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from engine.glm_tts.flow_workspace import ALIGNMENT, MOST_CLIPS, Workspace

_MOVED = 1024
"""Numbers that a program moves where each is by itself."""


def begin_step(work: Workspace) -> None:
    """Put the pinned frames where they are before this step, note x, and add up the modulation."""
    rows, mels = work.x.shape
    _pin[(triton.cdiv(rows, ALIGNMENT),)](
        work.x, work.path, work.now, work.tables.clip, work.tables.first, work.tables.pinned, rows,
        mels=mels, columns=triton.next_power_of_2(mels), tile=ALIGNMENT,
    )  # fmt: skip
    size = work.turns[0].numel()
    _add_up[(triton.cdiv(size, _MOVED), MOST_CLIPS + 1)](
        work.by_time, work.by_speaker, work.now, work.tables.length, work.turns,
        size=size, free=MOST_CLIPS, tile=_MOVED,
    )  # fmt: skip


def end_step(work: Workspace, velocity: Tensor) -> None:
    """Follow the velocity, float32 [2 R, 80]."""
    size = work.x.numel()
    _follow[(triton.cdiv(size, _MOVED),)](
        work.x, velocity, work.tables.pull, work.now, size, tile=_MOVED
    )
    work.now.add_(1)


@triton.jit(do_not_specialize=["rows"])
def _pin(
    x, path, now, clips, firsts, pinned, rows,
    mels: tl.constexpr, columns: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * tile + tl.arange(0, tile)[:, None]
    column = tl.arange(0, columns)[None, :]
    is_inside = (row < rows) & (column < mels)
    clip = tl.load(clips + row, row < rows, 0)
    is_pinned = row - tl.load(firsts + clip) < tl.load(pinned + clip)
    at = row * mels + column
    known = path + tl.load(now) * rows * mels + at
    here = tl.load(x + at, is_inside, 0.0)
    here = tl.where(is_pinned, tl.load(known, is_inside & is_pinned, 0.0), here)
    tl.store(x + at, here, is_inside)
    tl.store(known, here, is_inside)


@triton.jit
def _add_up(
    by_time, by_speaker, now, lengths, turns,
    size: tl.constexpr, free: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    clip = tl.program_id(1)
    if tl.load(lengths + clip, clip < free, 1) == 0:
        return
    at = tl.program_id(0) * tile + tl.arange(0, tile)
    is_inside = at < size
    own = clip * size + at
    total = tl.load(by_time + tl.load(now) * size + at, is_inside, 0.0)
    tl.store(turns + own, total + tl.load(by_speaker + own, is_inside, 0.0), is_inside)


@triton.jit(do_not_specialize=["size"])
def _follow(x, velocity, pull, now, size, tile: tl.constexpr):
    at = tl.program_id(0) * tile + tl.arange(0, tile)
    is_inside = at < size
    pulls = pull + 2 * tl.load(now)
    here = tl.load(x + at, is_inside, 0.0)
    here += tl.load(pulls) * tl.load(velocity + at, is_inside, 0.0)
    here += tl.load(pulls + 1) * tl.load(velocity + size + at, is_inside, 0.0)
    tl.store(x + at, here, is_inside)
