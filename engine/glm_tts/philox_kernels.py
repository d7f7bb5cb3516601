"""The numbers of `philox` in one kernel: about a hundred small ones otherwise."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"
# ruff: noqa: N803

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.random import philox_impl

_MOST_BLOCKS = 256
"""Of four words each, by one program."""


def draw(seeds: Tensor, purpose: int, rows: Tensor, columns: int, *, is_normal: bool) -> Tensor:
    """Normal or exponential numbers, [B, R, columns] float32; see `philox.normals`."""
    clips, count = rows.shape
    out = torch.empty(clips, count, columns, device=rows.device)
    blocks = min(_MOST_BLOCKS, triton.next_power_of_2(triton.cdiv(columns, 4)))
    grid = (clips * count, triton.cdiv(columns, 4 * blocks))
    _draw[grid](
        out, seeds.contiguous(), rows.contiguous(), count, columns, int(purpose),
        IS_NORMAL=is_normal, BLOCKS=blocks,
    )  # fmt: skip
    return out


@triton.jit
def _uniform(word):
    return ((word >> 9).to(tl.float32) + 0.5) * 1.1920928955078125e-07


@triton.jit
def _pair(first, second, IS_NORMAL: tl.constexpr):
    if IS_NORMAL:
        radius = tl.sqrt(-2.0 * tl.log(_uniform(first)))
        angle = 6.283185307179586 * _uniform(second)
        return radius * tl.cos(angle), radius * tl.sin(angle)
    else:  # noqa: RET505  Triton traces both arms unless they are arms
        return -tl.log(_uniform(first)), -tl.log(_uniform(second))


@triton.jit(do_not_specialize=["count", "columns", "purpose"])
def _draw(out, seeds, rows, count, columns, purpose, IS_NORMAL: tl.constexpr, BLOCKS: tl.constexpr):
    place = tl.program_id(0).to(tl.int64)
    blocks = tl.program_id(1) * BLOCKS + tl.arange(0, BLOCKS)
    seed = tl.load(seeds + place // count)
    row = tl.load(rows + place)
    none = tl.zeros([BLOCKS], tl.uint32)
    a, b, c, d = philox_impl(
        blocks.to(tl.uint32),
        none + (row & 0xFFFFFFFF).to(tl.uint32),
        none + ((seed >> 32) & 0xFFFFFFFF).to(tl.uint32),
        none,
        none + (seed & 0xFFFFFFFF).to(tl.uint32),
        none + purpose.to(tl.uint32),
    )
    e, f = _pair(a, b, IS_NORMAL)
    g, h = _pair(c, d, IS_NORMAL)
    at = out + place * columns + 4 * blocks
    tl.store(at, e, mask=4 * blocks < columns)
    tl.store(at + 1, f, mask=4 * blocks + 1 < columns)
    tl.store(at + 2, g, mask=4 * blocks + 2 < columns)
    tl.store(at + 3, h, mask=4 * blocks + 3 < columns)
