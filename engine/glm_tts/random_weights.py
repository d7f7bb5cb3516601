"""Weights made up on the spot: noise instead of speech, at a real model's pace."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from engine.glm_tts.golden_weights import made_up_weights
from engine.glm_tts.tensors import Shapes, Weights


def random_weights(
    part: str, shapes: Shapes, seed: int, device: torch.device, dtype: torch.dtype
) -> Weights:
    """A part's tensors; weight norm is not folded.

    Each is made where it will be used, and depends on its name, the seed and the kind of device.

    Args:
        part: Keeps the parts apart.
        shapes: As the functions of `tensors` give them.
        seed: Any.
    """

    def draw(name: str, shape: tuple[int, ...], scale: float, shift: float) -> Tensor:
        digest = hashlib.sha256(f"{seed}.{part}.{name}".encode()).digest()
        generator = torch.Generator(device).manual_seed(int.from_bytes(digest[:8]) >> 1)
        numbers = torch.randn(shape, generator=generator, device=device)
        return (numbers * scale + shift).to(dtype)

    weights = made_up_weights(shapes, draw)
    if (embedding := weights.get("model.embed_tokens.weight")) is not None:
        # It is the head too: at the formula's scale each token would predict itself.
        embedding *= 2 / math.sqrt(embedding.shape[1])
    return {name: tensor.to(device, dtype) for name, tensor in weights.items()}
