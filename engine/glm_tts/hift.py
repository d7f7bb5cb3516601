"""HiFT's network in plain operations: mel and source to audio."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from engine.glm_tts.dims import HiftDims
from engine.glm_tts.source import Conv
from engine.glm_tts.tensors import Weights

if TYPE_CHECKING:
    from engine.glm_tts.hift_fused import FusedHift

Precision: TypeAlias = Literal["float32", "float16"]

UPSAMPLING = (8, 5, 3)
SOURCE_STRIDES = (15, 3, 1)
BRANCHES = 3
DILATIONS = (1, 3, 5)
SLOPE = 0.1
LAST_SLOPE = 0.01
WINDOW = 16
"""Samples of the short spectra, four of them to a frame's hop."""
STRIDE = 4
BINS = WINDOW // 2 + 1
LOUDEST = 100.0
CEILING = 0.99


def network_of(dims: HiftDims, weights: Weights, precision: Precision) -> HiftNetwork | FusedHift:
    """The network that is fastest where the weights are.

    Args:
        dims: Sizes.
        weights: By the checkpoint's names, weight norm folded.
        precision: Of the convolutions of the fused one.
    """
    if not _can_fuse(dims, weights["conv_pre.weight"]):
        return HiftNetwork(weights)
    from engine.glm_tts.hift_fused import FusedHift

    return FusedHift(weights, precision)


def _can_fuse(dims: HiftDims, weight: Tensor) -> bool:
    """Tensor cores take 16 channels at least; the last stage has an eighth of the first."""
    return dims.base % 128 == 0 and weight.is_cuda and find_spec("triton") is not None


class HiftNetwork:
    """Upsamples the mel in three stages, adds the source to each, and ends in a short spectrum.

    Works in the precision of its weights.
    """

    def __init__(self, weights: Weights) -> None:
        self._first = Conv.of(weights, "conv_pre")
        self._stages = [Stage.of(weights, index) for index in range(len(UPSAMPLING))]
        self._last = Conv.of(weights, "conv_post")
        self._spectrum = ShortSpectrum(self._first.weight.device)

    def __call__(self, mels: Tensor, source: Tensor) -> Tensor:
        """float32 [B, 80, T] and [B, 480 T] -> audio, float32 [B, 480 T]."""
        dtype = self._first.weight.dtype
        spectrum = self._spectrum.analyse(source).to(dtype)
        x = self._first(mels.to(dtype))
        for index, stage in enumerate(self._stages):
            x = stage.upsample(functional.leaky_relu(x, SLOPE), UPSAMPLING[index])
            if stage is self._stages[-1]:
                # A spectrum of N strides has N + 1 columns.
                x = functional.pad(x, (1, 0), mode="reflect")
            x = stage.blend(x, spectrum, SOURCE_STRIDES[index])
        x = self._last(functional.leaky_relu(x, LAST_SLOPE)).float()
        magnitude = x[:, :BINS].exp().clamp(max=LOUDEST)
        phase = x[:, BINS:].sin()
        polar = torch.cat((magnitude * phase.cos(), magnitude * phase.sin()), 1)
        return self._spectrum.synthesize(polar).clamp(-CEILING, CEILING)


class ShortSpectrum:
    """Spectra of 16 samples, real parts above imaginary, and the audio that has such spectra."""

    # analysis, synthesis   float32 [18, 1, 16]
    # overlap               float32 [1, 1, 16], what the windows of the two make together

    def __init__(self, device: torch.device) -> None:
        window = torch.hann_window(WINDOW, dtype=torch.float64)
        turns = torch.arange(BINS)[:, None] * torch.arange(WINDOW) / WINDOW
        angles = 2 * math.pi * turns.double()
        waves = torch.cat((angles.cos(), -angles.sin()))[:, None] * window
        # All bins but the first and the last stand for two.
        twice = torch.full((BINS,), 2.0, dtype=torch.float64)
        twice[[0, -1]] = 1
        self.analysis = waves.float().to(device)
        self.synthesis = (waves * twice.repeat(2)[:, None, None] / WINDOW).float().to(device)
        self.overlap = window.square()[None, None].float().to(device)

    def analyse(self, audio: Tensor) -> Tensor:
        """[B, 4 N] -> [B, 18, N + 1]; the audio is mirrored at its ends."""
        padded = functional.pad(audio[:, None], (WINDOW // 2, WINDOW // 2), mode="reflect")
        return functional.conv1d(padded, self.analysis, stride=STRIDE)

    def synthesize(self, spectrum: Tensor) -> Tensor:
        """[B, 18, N + 1] -> [B, 4 N]."""
        # torch.istft would look at the sum of its windows on the host.
        added = functional.conv_transpose1d(spectrum, self.synthesis, stride=STRIDE)
        ones = torch.ones_like(spectrum[:1, :1])
        weight = functional.conv_transpose1d(ones, self.overlap, stride=STRIDE)
        inner = slice(WINDOW // 2, -WINDOW // 2)
        return added[:, 0, inner] / weight[:, 0, inner]


class Snake(NamedTuple):
    alpha: Tensor
    """[C, 1]."""

    def __call__(self, x: Tensor) -> Tensor:
        return x + torch.sin(self.alpha * x).square() / (self.alpha + 1e-9)


class Residual(NamedTuple):
    """Convolutions that see further and further, each added to what it saw."""

    steps: list[tuple[Snake, Conv, Snake, Conv]]

    @classmethod
    def of(cls, weights: Weights, name: str) -> Residual:
        def half(side: int, step: int) -> tuple[Snake, Conv]:
            alpha = weights[f"{name}.activations{side}.{step}.alpha"]
            return Snake(alpha[:, None]), Conv.of(weights, f"{name}.convs{side}.{step}")

        return cls([(*half(1, step), *half(2, step)) for step in range(len(DILATIONS))])

    def __call__(self, x: Tensor) -> Tensor:
        for dilation, (before, wide, between, narrow) in zip(DILATIONS, self.steps, strict=True):
            x = x + narrow(between(wide(before(x), dilation)))
        return x


class Stage(NamedTuple):
    """One step of the upsampling, and what follows at its rate."""

    up: Conv
    source_down: Conv
    source: Residual
    branches: list[Residual]

    @classmethod
    def of(cls, weights: Weights, index: int) -> Stage:
        return cls(
            up=Conv.of(weights, f"ups.{index}"),
            source_down=Conv.of(weights, f"source_downs.{index}"),
            source=Residual.of(weights, f"source_resblocks.{index}"),
            branches=[
                Residual.of(weights, f"resblocks.{BRANCHES * index + branch}")
                for branch in range(BRANCHES)
            ],
        )

    def upsample(self, x: Tensor, stride: int) -> Tensor:
        """[B, 2 C, T] -> [B, C, stride * T]."""
        padding = (self.up.weight.shape[-1] - stride) // 2
        return functional.conv_transpose1d(x, self.up.weight, self.up.bias, stride, padding)

    def blend(self, x: Tensor, spectrum: Tensor, stride: int) -> Tensor:
        """Add the source to [B, C, T], and shape both."""
        weight, bias = self.source_down
        source = functional.conv1d(spectrum, weight, bias, stride, padding=stride // 2)
        x = x + self.source(source)
        return torch.stack([branch(x) for branch in self.branches]).mean(0)
