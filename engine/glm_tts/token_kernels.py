"""What of the flow's token branch looks along a clip, as Triton kernels. Rows: `flow_kernels`."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.glm_tts.flow_kernels import normalised
from engine.glm_tts.flow_workspace import ALIGNMENT, MOST_CLIPS, TILE, Tables

_STRENGTH_COLUMNS = 32


def convolve_and_norm(
    x: Tensor, weight: Tensor, bias: Tensor, norm: tuple[Tensor, Tensor], tables: Tables
) -> Tensor:
    """Convolve each channel over time, with zeros around the clip; then normalise each frame.

    Args:
        x: float32 [R, W], contiguous.
        weight: float32 [W, 1, taps], contiguous; taps are odd.
        bias: float32 [W].
        norm: Its weight and bias, float32 [W].
        tables: Of the solve.
    Returns:
        float32 [R, W].
    """
    rows, width = x.shape
    normed = torch.empty_like(x)
    _convolve_and_norm[(rows // ALIGNMENT,)](
        x, weight, bias, *norm, normed, tables.clip, tables.first, tables.length,
        width=width, columns=triton.next_power_of_2(width), taps=weight.shape[2], tile=ALIGNMENT,
    )  # fmt: skip
    return normed


def strength(x: Tensor, tables: Tables) -> Tensor:
    """Each channel's Euclidean norm over each clip.

    Args:
        x: float32 [R, W], contiguous.
        tables: Of the solve.
    Returns:
        float32 [C, W]; 0 for no clip.
    """
    width = x.shape[1]
    out = x.new_empty(MOST_CLIPS, width)
    _strength[(triton.cdiv(width, _STRENGTH_COLUMNS), MOST_CLIPS)](
        x, tables.first, tables.length, out, width=width, columns=_STRENGTH_COLUMNS, tile=TILE
    )
    return out


@triton.jit
def _convolve_and_norm(
    x, weight, bias, norm_weight, norm_bias, normed, clips, firsts, lengths,
    width: tl.constexpr, columns: tl.constexpr, taps: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * tile
    clip = tl.load(clips + row)
    first = tl.load(firsts + clip)
    frames = tl.load(lengths + clip)
    place = row - first + tl.arange(0, tile)[:, None]
    column = tl.arange(0, columns)[None, :]
    is_column = column < width
    own = x + first * width + column
    total = tl.load(bias + column, is_column, 0.0) + tl.zeros([tile, columns], tl.float32)
    for tap in tl.static_range(taps):
        source = place + (tap - taps // 2)
        is_seen = (source >= 0) & (source < frames) & is_column
        share = tl.load(weight + column * taps + tap, is_column, 0.0)
        total += tl.load(own + source * width, is_seen, 0.0) * share
    unit = normalised(total, is_column, width)
    y = unit * tl.load(norm_weight + column, is_column, 0.0)
    y += tl.load(norm_bias + column, is_column, 0.0)
    tl.store(normed + (first + place) * width + column, y, is_column)


@triton.jit
def _strength(
    x, firsts, lengths, out, width: tl.constexpr, columns: tl.constexpr, tile: tl.constexpr
):  # fmt: skip
    clip = tl.program_id(1)
    first = tl.load(firsts + clip)
    frames = tl.load(lengths + clip)
    frame = tl.arange(0, tile)[:, None]
    column = tl.program_id(0) * columns + tl.arange(0, columns)
    is_column = column < width
    own = x + first * width + frame * width + column[None, :]
    total = tl.zeros([columns], tl.float32)
    for start in range(0, frames, tile):
        is_inside = (start + frame < frames) & is_column[None, :]
        here = tl.load(own + start * width, is_inside, 0.0)
        total += tl.sum(here * here, 0)
    tl.store(out + clip * width + column, tl.sqrt(total), is_column)
