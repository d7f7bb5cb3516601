"""HiFT's source: the pitch of each mel frame, and a buzz at that pitch for the network to shape.

Pitch and phase are in double precision. So a frame's pitch is the same in whatever window and
batch it is computed, and the phase, a sum over the clip, does not depend on how the clip is cut.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from engine.glm_tts.tensors import Weights

HARMONICS = 9
"""The fundamental and eight above it."""
SAMPLE_RATE = 24_000
HOP = 480
"""Samples of a mel frame."""

_LOUDNESS = 0.1
_VOICED_HZ = 10.0
_VOICED_NOISE = 0.003
_UNVOICED_NOISE = _LOUDNESS / 3


class Conv(NamedTuple):
    """A convolution that keeps the length: zeros beyond both ends."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, weights: Weights, name: str) -> Conv:
        return cls(weights[f"{name}.weight"], weights[f"{name}.bias"])

    def double(self) -> Conv:
        return Conv(self.weight.double(), self.bias.double())

    def __call__(self, x: Tensor, dilation: int = 1) -> Tensor:
        reach = dilation * (self.weight.shape[-1] // 2)
        return functional.conv1d(x, self.weight, self.bias, padding=reach, dilation=dilation)


class PitchPredictor:
    """Fundamental frequency by mel frame; a frame depends on `reach_frames` on either side."""

    reach_frames = 5

    def __init__(self, weights: Weights) -> None:
        self._layers = [
            Conv.of(weights, f"f0_predictor.condnet.{2 * layer}").double()
            for layer in range(self.reach_frames)
        ]
        self._weight = weights["f0_predictor.classifier.weight"].double()
        self._bias = weights["f0_predictor.classifier.bias"].double()

    def __call__(self, mels: Tensor) -> Tensor:
        """Hz, [B, 80, T] -> float32 [B, T]."""
        x = mels.double()
        for layer in self._layers:
            x = functional.elu(layer(x))
        return functional.linear(x.mT, self._weight, self._bias).squeeze(-1).abs().float()


class HarmonicSource:
    """Sine waves at the pitch and its multiples, and noise, mixed to one signal."""

    def __init__(self, weights: Weights) -> None:
        self._weight = weights["m_source.l_linear.weight"].float()
        self._bias = weights["m_source.l_linear.bias"].float()

    def cycles(self, f0: Tensor) -> Tensor:
        """How far each harmonic has come since the start of a window, at the middle of its frames.

        Args:
            f0: Hz, float32 [B, T].
        Returns:
            Cycles, float64 [B, 9, T + 1]. The first column is 0: before the window.
        """
        # Rounded to float32 here as the model was trained: it is what 480 samples multiply.
        multiples = torch.arange(1, HARMONICS + 1, device=f0.device)[:, None]
        per_sample = (f0[:, None] * multiples / SAMPLE_RATE) % 1
        return functional.pad((HOP * per_sample.double()).cumsum(-1), (1, 0))

    def sines(self, f0: Tensor, cycles: Tensor) -> Tensor:
        """The harmonics where there is a voice, else zeros.

        Args:
            f0: Hz, float32 [B, T].
            cycles: At the middle of each frame, float64 [B, 9, T].
        Returns:
            float32 [B, 480 T, 9].
        """
        # From middle to middle; it stands still in the half frame at each end.
        cycles = functional.interpolate(cycles, scale_factor=HOP, mode="linear")
        waves = torch.sin(2 * math.pi * cycles.frac().float())
        return _LOUDNESS * waves.mT * _is_voiced(f0)

    def mix(self, f0: Tensor, sines: Tensor, noise: Tensor) -> Tensor:
        """The signal, float32 [B, 480 T].

        Args:
            f0: Hz, float32 [B, T].
            sines: float32 [B, 480 T, 9].
            noise: Standard normal, float32 [B, 480 T, 9].
        """
        loudness = torch.where(_is_voiced(f0), _VOICED_NOISE, _UNVOICED_NOISE)
        mixed = functional.linear(sines + loudness * noise, self._weight, self._bias)
        return torch.tanh(mixed.squeeze(-1))


def _is_voiced(f0: Tensor) -> Tensor:
    """By sample, bool [B, 480 T, 1]."""
    return (f0 > _VOICED_HZ).repeat_interleave(HOP, -1)[..., None]
