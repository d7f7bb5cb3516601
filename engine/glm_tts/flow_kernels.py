"""What of the flow's estimator is more than a matrix product, as Triton kernels.

They read and write the precision that their tensors have and compute in float32; products of
half precision are summed in float32. A frame's result depends neither on the batch nor on how
far its clip is filled up: tiles have one size, and nothing is read beyond a clip's end.
A batch has R rows, its B clips twice; what both halves share has B rows.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

# Kernels are not specialised on clips and frames: some numbers would be compiled on their own.

_EPS = tl.constexpr(1e-6)
_NORM_FRAMES = 4
_TURN_FRAMES = 32
_PARTS = 3
"""Queries, keys and values stand side by side."""


class Tiles(NamedTuple):
    """How a kernel with matrix products is cut; of the attention, or of the convolution."""

    frames: int = 64
    """Of the result, by one program."""
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
    dtype: torch.dtype,
) -> Tensor:
    """Normalise each frame, then scale and shift it.

    Args:
        hidden: float32 [R, T, W], contiguous.
        shift: float32 [R, W], of any stride; so the scale and the gate.
        scale: See shift.
        added: A gate and what is added to `hidden` in place through it, before; [R, T, W].
        dtype: Of the result.
    Returns:
        [R, T, W].
    """
    rows, frames, width = hidden.shape
    normed = torch.empty_like(hidden, dtype=dtype)
    gate, branch = (shift, normed) if added is None else added
    grid = (triton.cdiv(frames, _NORM_FRAMES), rows)
    _modulate[grid](
        hidden, branch, gate, shift, scale, normed, frames,
        row_stride=shift.stride(0), is_added=added is not None,
        width=width, columns=triton.next_power_of_2(width), tile=_NORM_FRAMES,
    )  # fmt: skip
    return normed


def turn_first_head(qkv: Tensor, cosines: Tensor, sines: Tensor) -> None:
    """Rotate neighbouring channels of the first head's queries and keys, in place.

    Args:
        qkv: [R, T, 3 W], contiguous.
        cosines: float32 [B, T, D / 2]; so the sines.
        sines: See cosines.
    """
    rows, frames, width = qkv.shape
    clips, _, half = cosines.shape
    grid = (triton.cdiv(frames, _TURN_FRAMES), rows, 2)
    _turn[grid](
        qkv, cosines, sines, clips, frames, width=width // _PARTS, half=half, tile=_TURN_FRAMES
    )


def attention(qkv: Tensor, limits: Tensor, heads: int, tiles: Tiles = ATTENTION) -> Tensor:
    """Attention of each frame to those before its limit.

    Args:
        qkv: [R, T, 3 W], contiguous.
        limits: int32 [B, T], from 1 to T.
        heads: Of W / heads channels, a power of two.
        tiles: How to cut.
    Returns:
        [R, T, W].
    """
    rows, frames, width = qkv.shape
    width //= _PARTS
    mixed = qkv.new_empty(rows, frames, width)
    grid = (triton.cdiv(frames, tiles.frames), heads, rows)
    _attention[grid](
        qkv, limits, mixed, len(limits), frames, heads=heads, dim=width // heads,
        tile=tiles.frames, depth=tiles.depth,
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

    def __call__(self, x: Tensor, lengths: Tensor, out: Tensor, *, adds: bool) -> None:
        """Convolve, with zeros before a clip and beyond its end.

        Args:
            x: [R, T, W], contiguous.
            lengths: int32 [B], the clips' own frames.
            out: [R, T, W], contiguous; not `x`.
            adds: The result is added to `out`, not put there.
        """
        rows, frames, width = x.shape
        tiles = CONVOLUTION
        grid = (triton.cdiv(frames, tiles.frames), len(self.weight), rows)
        _convolve[grid](
            x, self.weight, self.bias, lengths, out, len(lengths), frames, adds=adds,
            width=width, taps=self.taps, channels=self.channels,
            inputs=self.weight.shape[1], columns=self.weight.shape[2],
            tile=tiles.frames, depth=tiles.depth,
            num_warps=tiles.warps, num_stages=tiles.stages,
        )  # fmt: skip


@triton.jit(do_not_specialize=["frames"])
def _modulate(
    hidden, branch, gate, shift, scale, normed, frames,
    row_stride: tl.constexpr, is_added: tl.constexpr,
    width: tl.constexpr, columns: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1)
    frame = tl.program_id(0) * tile + tl.arange(0, tile)[:, None]
    column = tl.arange(0, columns)[None, :]
    is_column = column < width
    is_inside = (frame < frames) & is_column
    at = (row * frames + frame) * width + column
    own = row * row_stride + column
    x = tl.load(hidden + at, is_inside, 0.0)
    if is_added:
        x += tl.load(gate + own, is_column, 0.0) * tl.load(branch + at, is_inside, 0.0)
        tl.store(hidden + at, x, is_inside)
    mean = tl.sum(x, 1)[:, None] / width
    centred = tl.where(is_column, x - mean, 0.0)
    variance = tl.sum(centred * centred, 1)[:, None] / width
    unit = centred * tl.rsqrt(variance + _EPS)
    y = unit * (1 + tl.load(scale + own, is_column, 0.0)) + tl.load(shift + own, is_column, 0.0)
    tl.store(normed + at, y.to(normed.dtype.element_ty), is_inside)


@triton.jit(do_not_specialize=["clips", "frames"])
def _turn(
    qkv, cosines, sines, clips, frames,
    width: tl.constexpr, half: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1)
    frame = tl.program_id(0) * tile + tl.arange(0, tile)[:, None]
    pair = tl.arange(0, half)[None, :]
    is_inside = (frame < frames) & (pair < half)
    # Both of a pair are one thread's: no other reads what it has turned.
    first = qkv + (row * frames + frame) * (3 * width) + tl.program_id(2) * width + 2 * pair
    angle = ((row % clips) * frames + frame) * half + pair
    cosine = tl.load(cosines + angle, is_inside, 0.0)
    sine = tl.load(sines + angle, is_inside, 0.0)
    even = tl.load(first, is_inside, 0.0).to(tl.float32)
    odd = tl.load(first + 1, is_inside, 0.0).to(tl.float32)
    kind = qkv.dtype.element_ty
    tl.store(first, (even * cosine - odd * sine).to(kind), is_inside)
    tl.store(first + 1, (odd * cosine + even * sine).to(kind), is_inside)


@triton.jit(do_not_specialize=["clips", "frames"])
def _attention(
    qkv, limits, mixed, clips, frames,
    heads: tl.constexpr, dim: tl.constexpr, tile: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    width: tl.constexpr = heads * dim
    stride: tl.constexpr = 3 * width
    row, head = tl.program_id(2), tl.program_id(1)
    query = tl.program_id(0) * tile + tl.arange(0, tile)
    is_query = query < frames
    channel = tl.arange(0, dim)
    base = qkv + row * frames * stride + head * dim
    q = tl.load(base + query[:, None] * stride + channel[None, :], is_query[:, None], 0.0)
    limit = tl.load(limits + (row % clips) * frames + query, is_query, 1)
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
    out = mixed + (row * frames + query[:, None]) * width + head * dim + channel[None, :]
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


@triton.jit(do_not_specialize=["clips", "frames"])
def _convolve(
    x, weight, bias, lengths, out, clips, frames, adds: tl.constexpr,
    width: tl.constexpr, taps: tl.constexpr, channels: tl.constexpr,
    inputs: tl.constexpr, columns: tl.constexpr, tile: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    row, group = tl.program_id(2), tl.program_id(1)
    frame = tl.program_id(0) * tile + tl.arange(0, tile)[:, None]
    length = tl.load(lengths + row % clips)
    column = tl.arange(0, columns)[None, :]
    rows = x + row * frames * width + group * channels
    weights = weight + group * inputs * columns
    total = tl.zeros([tile, columns], tl.float32)
    for start in range(0, inputs, depth):
        # An input is a channel of one of the frames around; those filled up weigh nothing.
        place = start + tl.arange(0, depth)
        source = frame + (place // channels - taps // 2)[None, :]
        near = rows + source * width + (place % channels)[None, :]
        seen = tl.load(near, (source >= 0) & (source < length), 0.0)
        shares = tl.load(weights + place[:, None] * columns + column)
        total = tl.dot(seen.to(shares.dtype), shares, total)
    is_column = column < channels
    y = _mish(total + tl.load(bias + group * channels + column, is_column, 0.0))
    at = out + (row * frames + frame) * width + group * channels + column
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
