"""Weights by a formula: what the stored vectors of the tests were computed with."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.glm_tts.tensors import Weights

Draw: TypeAlias = Callable[[str, tuple[int, ...], float, float], Tensor]
"""Normal numbers of a name, a shape, a scale and a shift."""


def gw(
    name: str, shape: tuple[int, ...], scale: float = 1.0, shift: float = 0.0
) -> npt.NDArray[np.float32]:
    """Normal numbers that depend on the name alone.

    Returns:
        float32 of the shape.
    """
    # The legacy generator, for its numbers are promised never to change.
    generator = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    numbers = generator.standard_normal(math.prod(shape)) * scale + shift
    return numbers.astype(np.float32).reshape(shape)


def golden_weights(prefix: str, shapes: Mapping[str, tuple[int, ...]]) -> Weights:
    """A part's tensors, by their names in the checkpoint; weight norm is not folded.

    Args:
        prefix: "tiny.flow.", "true.hift.", "tiny.wvq.", ...
        shapes: As the functions of `tensors` give them.
    Returns:
        float32, on the CPU.
    """

    def draw(name: str, shape: tuple[int, ...], scale: float, shift: float) -> Tensor:
        return torch.from_numpy(gw(prefix + name, shape, scale, shift))

    return made_up_weights(shapes, draw)


def made_up_weights(shapes: Mapping[str, tuple[int, ...]], draw: Draw) -> Weights:
    """Weights that keep a part's numbers within sane bounds.

    Args:
        shapes: As the functions of `tensors` give them.
        draw: Where the numbers come from.
    """
    weights = {name: _weight(name, shape, draw) for name, shape in shapes.items()}
    if "f0_predictor.classifier.weight" in weights:
        # For a pitch that is heard, and audio that is not clipped.
        weights["f0_predictor.classifier.weight"] *= 250
        weights["f0_predictor.classifier.bias"].zero_()
        weights["conv_post.parametrizations.weight.original0"] *= 0.15
    return weights


def _weight(name: str, shape: tuple[int, ...], draw: Draw) -> Tensor:
    """By the first rule that fits the name."""

    def normal(scale: float, shift: float = 0.0) -> Tensor:
        return draw(name, shape, scale, shift)

    if name.endswith("inv_freq"):
        width = 2 * shape[0]
        return 1.0 / 10_000.0 ** (torch.arange(0, width, 2).float() / width)
    if name.endswith(("original0", "weight_g")):
        return normal(0.1, 1.0).abs()
    if name.endswith("alpha"):
        return normal(0.2, 1.0).abs() + 0.05
    if len(shape) == 1 and name.endswith("weight") and "norm" in name.split(".")[-2]:
        return normal(0.1, 1.0)
    if name.endswith(("gamma", "beta")):
        return normal(0.2)
    if len(shape) <= 1:
        return normal(0.1)
    if len(shape) == 2 and "embed" in name and "time" not in name and "proj" not in name:
        return normal(0.5)
    if name in {"codebook.weight", "ema_weight"}:
        return normal(1.0)
    return normal(1 / math.sqrt(math.prod(shape[1:])))
