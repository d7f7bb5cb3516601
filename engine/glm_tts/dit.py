"""The diffusion transformer: which way a mel that is still noise has to move.

Frames of a batch that lie beyond their clip's end are kept from the others: they are zero before
each convolution, and nobody attends to them. What they hold themselves means nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from engine.glm_tts.dims import FlowDims
from engine.glm_tts.tensors import Weights

_THETA = 10_000.0
_TIME_SCALE = 1000.0
_EPS = 1e-6
_PER_BLOCK = 6
"""Modulations: shift, scale and gate of the attention, then of the feed-forward."""


class Linear(NamedTuple):
    """A linear map, done in the precision that its weight has; called, it is a matrix product."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, weights: Weights, name: str) -> Linear:
        return cls(weights[f"{name}.weight"], weights[f"{name}.bias"])

    @classmethod
    def stacked(cls, weights: Weights, names: Iterable[str]) -> Linear:
        """Several of the same input as one."""
        parts = [cls.of(weights, name) for name in names]
        weight, bias = (torch.cat(same) for same in zip(*parts, strict=True))
        return cls(weight, bias)

    def split(self, columns: list[int]) -> list[Linear]:
        """One for each part of the input; they add up to this one. The last has the bias."""
        *parts, last = (part.contiguous() for part in torch.split(self.weight, columns, dim=1))
        return [*(Linear(part, None) for part in parts), Linear(last, self.bias)]

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x.to(self.weight.dtype), self.weight, self.bias)


class Block(NamedTuple):
    """The weights of a layer."""

    qkv: Linear
    out: Linear
    up: Linear
    down: Linear

    @classmethod
    def of(cls, weights: Weights, name: str) -> Block:
        return cls(
            qkv=Linear.stacked(weights, [f"{name}.attn.to_{part}" for part in "qkv"]),
            out=Linear.of(weights, f"{name}.attn.to_out.0"),
            up=Linear.of(weights, f"{name}.ff.ff.0.0"),
            down=Linear.of(weights, f"{name}.ff.ff.2"),
        )


class Shared(NamedTuple):
    """What all steps of a solve have in common."""

    inputs: Tensor
    """float32 [B, T, W]: the input projection but for x's part of it."""
    real: Tensor
    """float32 [B, T, 1]: 1 for a frame of the clip, 0 for one beyond its end."""
    rotation: tuple[Tensor, Tensor]
    """Cosines and sines, float32 [B, T, 1, D / 2] each."""
    visible: Tensor | None
    """bool [B, 1, T, T]: whether a frame (third) attends to another (last). None: to all."""


class Dit:
    """The estimator. Its residual stream and its velocity are float32 whatever the weights are.

    A step of the solver is `velocity`; all that does not depend on x is computed before, by the
    other methods, once.

    Args:
        dims: Sizes.
        weights: By the checkpoint's names without `estimator.`, on one device.
    """

    def __init__(self, dims: FlowDims, weights: Weights) -> None:
        self._dims = dims
        layers = [f"transformer_blocks.{index}" for index in range(dims.depth)]
        self.blocks = [Block.of(weights, layer) for layer in layers]
        norms = [*(f"{layer}.attn_norm" for layer in layers), "norm_out"]
        modulation = Linear.stacked(weights, [f"{norm}.linear" for norm in norms])
        self._from_time, self.from_speaker = modulation.split([dims.width, dims.speaker])
        self._time = [Linear.of(weights, f"time_embed.time_mlp.{index}") for index in (0, 2)]
        projection = Linear.of(weights, "emb_concator.proj")
        self.from_x, self.from_condition, self.from_tokens = projection.split(
            [dims.mels, dims.mels, dims.token_width]
        )
        convolutions = "emb_concator.conv_pos_embed.conv1d"
        self.convolutions = [Linear.of(weights, f"{convolutions}.{index}") for index in (0, 2)]
        self.to_mel = Linear.of(weights, "proj_out")

    def inputs(self, condition: Tensor, tokens: Tensor) -> Tensor:
        """What the input projection makes of all but x.

        Args:
            condition: float32 [B, T, 80].
            tokens: float32 [B, T, token width].
        Returns:
            float32 [B, T, W].
        """
        return self.from_condition(condition).float() + self.from_tokens(tokens)

    def rotation(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of rotary positions, int64 [B, T] -> float32 [B, T, 1, D / 2] each."""
        cosines, sines = rotation(places, self._dims.head_dim)
        return cosines[..., None, :], sines[..., None, :]

    def time_embedding(self, times: Tensor) -> Tensor:
        """Of times in [0, 1], float32 [S] -> [S, W]."""
        half = self._dims.time_width // 2
        exponents = torch.arange(half, device=times.device) * (-math.log(_THETA) / (half - 1))
        angles = _TIME_SCALE * times[:, None] * exponents.exp()
        first, second = self._time
        return second(functional.silu(first(torch.cat((angles.sin(), angles.cos()), 1)))).float()

    def time_modulation(self, times: Tensor) -> Tensor:
        """The part of the modulation that depends on time.

        Args:
            times: float32 [S], in [0, 1].
        Returns:
            float32 [S, K, 1, W]: for each block its shift, scale and gate of the attention, then
            of the feed-forward; at last the scale and the shift of the output.
        """
        return self._modulation(self._from_time, self.time_embedding(times))

    def speaker_modulation(self, speakers: Tensor) -> Tensor:
        """The part that depends on the speaker, to be added to that of a time.

        Args:
            speakers: float32 [B, 192], of length 1, or zero for no speaker.
        Returns:
            float32 [B, K, 1, W].
        """
        return self._modulation(self.from_speaker, speakers)

    def velocity(self, x: Tensor, modulation: Tensor, shared: Shared) -> Tensor:
        """Which way x has to move.

        Args:
            x: float32 [B, T, 80].
            modulation: float32 [B, K, 1, W], time's and speaker's together.
            shared: Of the batch.
        Returns:
            float32 [B, T, 80].
        """
        hidden = self.embed(x, shared)
        *parts, last = torch.split(modulation, _PER_BLOCK, dim=1)
        for block, part in zip(self.blocks, parts, strict=True):
            hidden = self.layer(block, hidden, part, shared)
        scale, shift = last.unbind(1)
        return self.to_mel(modulate(hidden, shift, scale)).float()

    def embed(self, x: Tensor, shared: Shared) -> Tensor:
        """The residual stream before the first block, float32 [B, T, W]."""
        hidden = shared.inputs + self.from_x(x)
        near = hidden
        for convolution in self.convolutions:
            near = functional.mish(convolve(near, convolution, shared.real))
        return hidden + near

    def layer(self, block: Block, hidden: Tensor, modulation: Tensor, shared: Shared) -> Tensor:
        """The residual stream after a block, by the block's own modulation, [B, 6, 1, W]."""
        shift, scale, gate, ff_shift, ff_scale, ff_gate = modulation.unbind(1)
        hidden = hidden + gate * self.attention(block, modulate(hidden, shift, scale), shared)
        inner = functional.gelu(block.up(modulate(hidden, ff_shift, ff_scale)), approximate="tanh")
        return hidden + ff_gate * block.down(inner)

    def attention(self, block: Block, normed: Tensor, shared: Shared) -> Tensor:
        """[B, T, W] -> [B, T, W]."""
        heads = block.qkv(normed).view(*normed.shape[:2], 3, self._dims.heads, self._dims.head_dim)
        # The model was trained with positions in the first head only, of queries and keys.
        heads[:, :, :2, 0] = _rotated(heads[:, :, :2, 0], shared.rotation)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=shared.visible)
        return block.out(mixed.transpose(1, 2).flatten(2))

    def _modulation(self, linear: Linear, c: Tensor) -> Tensor:
        return linear(functional.silu(c)).float().view(len(c), -1, 1, self._dims.width)


def rotation(places: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary positions, int64 [...] -> float32 [..., width / 2] each."""
    # Not the file's table: it would be blurred in a file of half precision.
    rates = _THETA ** (-torch.arange(0, width, 2, device=places.device) / width)
    angles = places[..., None] * rates
    return angles.cos(), angles.sin()


def modulate(hidden: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalise each frame of [B, T, W], then scale and shift it by [B, 1, W]."""
    return functional.layer_norm(hidden, hidden.shape[-1:], eps=_EPS) * (1 + scale) + shift


def convolve(x: Tensor, layer: Linear, real: Tensor) -> Tensor:
    """Convolve [B, T, C] over time, with zeros before the clip and beyond its end."""
    weight, bias = layer
    channels = (x * real).to(weight.dtype).mT
    groups = channels.shape[1] // weight.shape[1]
    return functional.conv1d(channels, weight, bias, padding="same", groups=groups).mT


def _rotated(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate neighbouring channels, [B, T, 2, D], as if they were complex numbers."""
    cosines, sines = rotation
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = (even * cosines - odd * sines, odd * cosines + even * sines)
    return torch.stack(turned, -1).flatten(-2)
