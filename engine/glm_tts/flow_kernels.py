"""What of the flow's estimator is more than a matrix product, as Triton kernels.

They read and write the precision that their tensors have and compute in float32; products of
half precision are summed in float32. A solve's R rows are those of all its clips, laid out as
`flow_workspace` says; most tensors have them twice, first with prompt and speaker, then without.
A frame's result depends neither on the other clips nor on R: tiles have one size and begin where
the clip does, and no row of another is read.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.glm_tts.flow_workspace import ALIGNMENT, MOST_CLIPS, TILE, Tables

# Kernels are not specialised on rows: some numbers would be compiled on their own.

_EPS = tl.constexpr(1e-6)
_TURN_ROWS = 16
_PARTS = 3
"""Queries, keys and values stand side by side."""


class Tiles(NamedTuple):
    """How a kernel with matrix products is cut; of the attention, or of the convolution."""

    depth: int = 64
    """Keys, or inputs of the convolution, in one round of the loop."""
    warps: int = 4
    stages: int = 3


ATTENTION = Tiles()
CONVOLUTION = Tiles()


def modulate(
    hidden: Tensor,
    shift: Tensor,
    scale: Tensor,
    added: tuple[Tensor, Tensor] | None,
    tables: Tables,
    dtype: torch.dtype,
) -> Tensor:
    """Normalise each frame, then scale and shift it.

    Args:
        hidden: float32 [2 R, W], contiguous.
        shift: float32 [C + 1, W], of any stride; so the scale and the gate. By clip, and for all
            of the second half.
        scale: See shift.
        added: A gate and what is added to `hidden` in place through it, before; [2 R, W].
        tables: Of the solve.
        dtype: Of the result.
    Returns:
        [2 R, W].
    """
    rows, width = hidden.shape
    normed = torch.empty_like(hidden, dtype=dtype)
    gate, branch = (shift, normed) if added is None else added
    _modulate[(rows // ALIGNMENT,)](
        hidden, branch, gate, shift, scale, normed, tables.clip, rows // 2,
        clip_stride=shift.stride(0), free=MOST_CLIPS, is_added=added is not None,
        width=width, columns=triton.next_power_of_2(width), tile=ALIGNMENT,
    )  # fmt: skip
    return normed


def turn_first_head(qkv: Tensor, cosines: Tensor, sines: Tensor) -> None:
    """Rotate neighbouring channels of the first head's queries and keys, in place.

    Args:
        qkv: [2 R, 3 W], contiguous.
        cosines: float32 [R, D / 2]; so the sines. D is a power of two.
        sines: See cosines.
    """
    rows, width = qkv.shape
    _turn[(triton.cdiv(rows, _TURN_ROWS), 2)](
        qkv, cosines, sines, rows // 2,
        width=width // _PARTS, half=cosines.shape[1], tile=_TURN_ROWS,
    )  # fmt: skip


def attention(
    qkv: Tensor, limits: Tensor, tables: Tables, heads: int, tiles: Tiles = ATTENTION
) -> Tensor:
    """Attention of each frame to those of its clip before its limit.

    Args:
        qkv: [2 R, 3 W], contiguous.
        limits: int64 [R], at least 1.
        tables: Of the solve.
        heads: Of W / heads channels, a power of two.
        tiles: How to cut.
    Returns:
        [2 R, W]. Rows of no clip are not written.
    """
    rows, width = qkv.shape
    width //= _PARTS
    mixed = qkv.new_empty(rows, width)
    _attention[len(tables.tiles), heads, 2](
        qkv, limits, mixed, tables.tiles, tables.first, tables.length, rows // 2,
        heads=heads, dim=width // heads, tile=TILE, depth=tiles.depth,
        num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    return mixed


class GroupedConvolution(NamedTuple):
    """A convolution over time, in groups of channels, and Mish behind it."""

    weight: Tensor
    """[groups, taps * channels of a group, filled up with zeros; the same channels, likewise]."""
    bias: Tensor
    """float32 [W]."""
    taps: int
    channels: int
    """Of a group."""

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> GroupedConvolution:
        """From a layer's [W, channels of a group, taps]; taps are odd."""
        width, channels, taps = weight.shape
        by_group = weight.view(-1, channels, channels, taps).permute(0, 3, 2, 1)
        inputs = triton.cdiv(taps * channels, CONVOLUTION.depth) * CONVOLUTION.depth
        packed = weight.new_zeros(
            width // channels, inputs, max(16, triton.next_power_of_2(channels)), dtype=dtype
        )
        packed[:, : taps * channels, :channels] = by_group.flatten(1, 2)
        return cls(packed, bias.float(), taps, channels)

    def __call__(self, x: Tensor, tables: Tables, out: Tensor, *, adds: bool) -> None:
        """Convolve, with zeros before a clip and beyond its end. Rows of no clip stay.

        Args:
            x: [2 R, W], contiguous.
            tables: Of the solve.
            out: [2 R, W], contiguous; not `x`.
            adds: The result is added to `out`, not put there.
        """
        rows, width = x.shape
        _convolve[len(tables.tiles), len(self.weight), 2](
            x, self.weight, self.bias, tables.tiles, tables.first, tables.length, out, rows // 2,
            adds=adds, width=width, taps=self.taps, channels=self.channels,
            inputs=self.weight.shape[1], columns=self.weight.shape[2],
            tile=TILE, depth=CONVOLUTION.depth,
            num_warps=CONVOLUTION.warps, num_stages=CONVOLUTION.stages,
        )  # fmt: skip


@triton.jit(do_not_specialize=["rows"])
def _modulate(
    hidden, branch, gate, shift, scale, normed, clips, rows,
    clip_stride: tl.constexpr, free: tl.constexpr, is_added: tl.constexpr,
    width: tl.constexpr, columns: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * tile
    # One clip's, all of them.
    clip = tl.load(clips + first, first < rows, free)
    column = tl.arange(0, columns)[None, :]
    is_column = column < width
    at = (first + tl.arange(0, tile)[:, None]) * width + column
    own = clip * clip_stride + column
    x = tl.load(hidden + at, is_column, 0.0)
    if is_added:
        x += tl.load(gate + own, is_column, 0.0) * tl.load(branch + at, is_column, 0.0)
        tl.store(hidden + at, x, is_column)
    unit = normalised(x, is_column, width)
    y = unit * (1 + tl.load(scale + own, is_column, 0.0)) + tl.load(shift + own, is_column, 0.0)
    tl.store(normed + at, y.to(normed.dtype.element_ty), is_column)


@triton.jit
def normalised(x, is_column, width: tl.constexpr):
    mean = tl.sum(x, 1)[:, None] / width
    centred = tl.where(is_column, x - mean, 0.0)
    variance = tl.sum(centred * centred, 1)[:, None] / width
    return centred * tl.rsqrt(variance + _EPS)


@triton.jit(do_not_specialize=["rows"])
def _turn(
    qkv, cosines, sines, rows, width: tl.constexpr, half: tl.constexpr, tile: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0) * tile + tl.arange(0, tile)[:, None]
    is_row = row < 2 * rows
    dim: tl.constexpr = 2 * half
    # Whole rows of channels are moved, for pairs of half precision alone would be 2 bytes apart.
    at = qkv + row * (3 * width) + tl.program_id(1) * width + tl.arange(0, dim)[None, :]
    pairs = tl.load(at, is_row, 0.0).to(tl.float32).reshape(tile, half, 2)
    even, odd = tl.split(pairs)
    angle = tl.where(row < rows, row, row - rows) * half + tl.arange(0, half)[None, :]
    cosine = tl.load(cosines + angle, is_row, 0.0)
    sine = tl.load(sines + angle, is_row, 0.0)
    turned = tl.join(even * cosine - odd * sine, odd * cosine + even * sine)
    tl.store(at, turned.reshape(tile, dim).to(qkv.dtype.element_ty), is_row)


@triton.jit(do_not_specialize=["rows"])
def _attention(
    qkv, limits, mixed, tiles, firsts, lengths, rows,
    heads: tl.constexpr, dim: tl.constexpr, tile: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    width: tl.constexpr = heads * dim
    stride: tl.constexpr = 3 * width
    clip = tl.load(tiles + 2 * tl.program_id(0))
    place = tl.load(tiles + 2 * tl.program_id(0) + 1)
    frames = tl.load(lengths + clip)
    if place >= frames:
        return
    head = tl.program_id(1)
    first = tl.load(firsts + clip)
    first_here = tl.program_id(2) * rows + first
    query = place + tl.arange(0, tile)
    is_query = query < frames
    channel = tl.arange(0, dim)
    base = qkv + first_here * stride + head * dim
    q = tl.load(base + query[:, None] * stride + channel[None, :], is_query[:, None], 0.0)
    limit = tl.load(limits + first + query, is_query, frames)
    limit = tl.minimum(limit.to(tl.int32), frames)
    # Keys before `common` are seen by all of the tile's queries, those from `end` on by none.
    common = tl.min(limit) // depth * depth
    end = tl.max(limit)
    key = tl.arange(0, depth)
    keys = base + width + key[None, :] * stride + channel[:, None]
    values = base + 2 * width + key[:, None] * stride + channel[None, :]
    # Scores are powers of two: exp2 is the one that the hardware has.
    sharpness: tl.constexpr = 1.4426950408889634 / dim**0.5
    top = tl.full([tile], -float("inf"), tl.float32)
    total = tl.zeros([tile], tl.float32)
    mean = tl.zeros([tile, dim], tl.float32)
    for start in range(0, common, depth):
        score = tl.dot(q, tl.load(keys + start * stride)) * sharpness
        value = tl.load(values + start * stride)
        top, total, mean = _look(score, value, top, total, mean)
    for start in range(common, end, depth):
        is_key = start + key < end
        score = tl.dot(q, tl.load(keys + start * stride, is_key[None, :], 0.0)) * sharpness
        score = tl.where(start + key[None, :] < limit[:, None], score, -float("inf"))
        value = tl.load(values + start * stride, is_key[:, None], 0.0)
        top, total, mean = _look(score, value, top, total, mean)
    out = mixed + (first_here + query[:, None]) * width + head * dim + channel[None, :]
    tl.store(out, (mean / total[:, None]).to(mixed.dtype.element_ty), is_query[:, None])


@triton.jit
def _look(score, value, top, total, mean):
    """Softmax as it goes: what was summed before is rescaled to the new highest score."""
    higher = tl.maximum(top, tl.max(score, 1))
    kept = tl.exp2(top - higher)
    share = tl.exp2(score - higher[:, None])
    total = total * kept + tl.sum(share, 1)
    mean = tl.dot(share.to(value.dtype), value, mean * kept[:, None])
    return higher, total, mean


@triton.jit(do_not_specialize=["rows"])
def _convolve(
    x, weight, bias, tiles, firsts, lengths, out, rows, adds: tl.constexpr,
    width: tl.constexpr, taps: tl.constexpr, channels: tl.constexpr,
    inputs: tl.constexpr, columns: tl.constexpr, tile: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    clip = tl.load(tiles + 2 * tl.program_id(0))
    begin = tl.load(tiles + 2 * tl.program_id(0) + 1)
    frames = tl.load(lengths + clip)
    if begin >= frames:
        return
    group = tl.program_id(1)
    first = tl.program_id(2) * rows + tl.load(firsts + clip)
    frame = begin + tl.arange(0, tile)[:, None]
    column = tl.arange(0, columns)[None, :]
    own = x + first * width + group * channels
    weights = weight + group * inputs * columns
    total = tl.zeros([tile, columns], tl.float32)
    for start in range(0, inputs, depth):
        # An input is a channel of one of the frames around; those filled up weigh nothing.
        place = start + tl.arange(0, depth)
        source = frame + (place // channels - taps // 2)[None, :]
        near = own + source * width + (place % channels)[None, :]
        seen = tl.load(near, (source >= 0) & (source < frames), 0.0)
        shares = tl.load(weights + place[:, None] * columns + column)
        total = tl.dot(seen.to(shares.dtype), shares, total)
    is_column = column < channels
    y = _mish(total + tl.load(bias + group * channels + column, is_column, 0.0))
    at = out + (first + frame) * width + group * channels + column
    is_inside = (frame < frames) & is_column
    if adds:
        y += tl.load(at, is_inside, 0.0)
    tl.store(at, y.to(out.dtype.element_ty), is_inside)


@triton.jit
def _mish(x):
    """x tanh(log(1 + exp(x))), without the logarithm."""
    power = tl.exp(tl.minimum(x, 20.0))
    square = power * (power + 2)
    return x * square / (square + 2)
