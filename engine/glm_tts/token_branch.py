"""What the flow knows of the speech tokens: an embedding for each mel frame."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from engine.glm_tts.dims import FlowDims
from engine.glm_tts.dit import Linear, convolve
from engine.glm_tts.tensors import Weights

_POSITIONS = 4096
"""Frames from here on share the last position."""
_THETA = 10_000.0
_EPS = 1e-6


def tokens_of_frames(tokens: int, frames: int) -> Tensor:
    """Which token each frame belongs to, int64 [frames] on the CPU."""
    # In float32: where the two do not divide, its rounding decides.
    return (torch.arange(frames, dtype=torch.float32) * (tokens / frames)).long()


class TokenBlock(NamedTuple):
    """The weights of a ConvNeXt V2 layer."""

    depthwise: Linear
    norm: tuple[Tensor, Tensor]
    up: Linear
    gamma: Tensor
    beta: Tensor
    down: Linear

    @classmethod
    def of(cls, weights: Weights, name: str) -> TokenBlock:
        return cls(
            depthwise=Linear.of(weights, f"{name}.dwconv"),
            norm=(weights[f"{name}.norm.weight"], weights[f"{name}.norm.bias"]),
            up=Linear.of(weights, f"{name}.pwconv1"),
            gamma=weights[f"{name}.grn.gamma"],
            beta=weights[f"{name}.grn.beta"],
            down=Linear.of(weights, f"{name}.pwconv2"),
        )

    def __call__(self, hidden: Tensor, real: Tensor) -> Tensor:
        near = convolve(hidden, self.depthwise, real)
        normed = functional.layer_norm(near, near.shape[-1:], *self.norm, eps=_EPS)
        inner = functional.gelu(self.up(normed)).float()
        # Each channel against the others, by its strength over the whole clip.
        strength = torch.linalg.vector_norm(inner * real, dim=1, keepdim=True)
        share = strength / (strength.mean(-1, keepdim=True) + _EPS)
        return hidden + self.down(inner + self.gamma * (inner * share) + self.beta)


class TokenBranch:
    """Embedding, positions and four convolutional layers.

    Args:
        dims: Sizes.
        weights: By the checkpoint's names without `estimator.`, on one device.
    """

    def __init__(self, dims: FlowDims, weights: Weights) -> None:
        prefix = "text_emb_layer"
        self._embedding = weights[f"{prefix}.text_embed.weight"]
        self._positions = _position_table(dims.token_width, self._embedding.device)
        names = [f"{prefix}.text_blocks.{index}" for index in range(dims.conv_layers)]
        self.blocks = [TokenBlock.of(weights, name) for name in names]

    def __call__(self, tokens: Tensor, places: Tensor, real: Tensor) -> Tensor:
        """Embed the tokens of a batch.

        Args:
            tokens: int64 [B, T], each frame's.
            places: int64 [B, T], where each frame stands in the speech.
            real: float32 [B, T, 1]: 1 for a frame of the clip, 0 for one beyond its end.
        Returns:
            float32 [B, T, token width].
        """
        hidden = self.embed(tokens, places)
        for block in self.blocks:
            hidden = block(hidden, real)
        return hidden

    def embed(self, tokens: Tensor, places: Tensor) -> Tensor:
        """What the blocks are given first, [...] each -> float32 [..., token width]."""
        positions = self._positions[places.clamp(max=_POSITIONS - 1)]
        return functional.embedding(tokens, self._embedding) + positions


def _position_table(width: int, device: torch.device) -> Tensor:
    rates = _THETA ** (-torch.arange(0, width, 2, device=device) / width)
    angles = torch.arange(_POSITIONS, device=device)[:, None] * rates
    return torch.cat((angles.cos(), angles.sin()), 1)
