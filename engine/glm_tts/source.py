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

LOUDNESS = 0.1
VOICED_HZ = 10.0
VOICED_NOISE = 0.003
UNVOICED_NOISE = LOUDNESS / 3


class Conv(NamedTuple):
    """A convolution that keeps the length: zeros beyond both ends."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, weights: Weights, name: str) -> Conv:
        return cls(weights[f"{name}.weight"], weights[f"{name}.bias"])

    def __call__(self, x: Tensor, dilation: int = 1) -> Tensor:
        reach = dilation * (self.weight.shape[-1] // 2)
        return functional.conv1d(x, self.weight, self.bias, padding=reach, dilation=dilation)


class PitchPredictor:
    """Fundamental frequency by mel frame; a frame depends on `reach_frames` on either side."""

    reach_frames = 5

    def __init__(self, weights: Weights) -> None:
        # A convolution of three frames as one matrix, [out, 3 in]: in double precision the
        # libraries have good matrix products only.
        self._layers = [
            (weights[f"{name}.weight"].double().mT.flatten(1), weights[f"{name}.bias"].double())
            for name in (f"f0_predictor.condnet.{2 * layer}" for layer in range(self.reach_frames))
        ]
        self._weight = weights["f0_predictor.classifier.weight"].double()
        self._bias = weights["f0_predictor.classifier.bias"].double()

    def __call__(self, mels: Tensor, frames: Tensor | None = None) -> Tensor:
        """Hz, float32 [B, T].

        Args:
            mels: [B, 80, T].
            frames: How many of each are there, integers [B]; None: all.
        """
        x = mels.mT.double()
        count = x.shape[1]
        beyond = None
        if frames is not None:
            beyond = (torch.arange(count, device=x.device) >= frames[:, None])[..., None]
        for weight, bias in self._layers:
            padded = functional.pad(x, (0, 0, 1, 1))
            seen = torch.cat([padded[:, tap : tap + count] for tap in range(3)], -1)
            x = functional.elu(functional.linear(seen, weight, bias))
            if beyond is not None:
                x = x.masked_fill(beyond, 0)
        return functional.linear(x, self._weight, self._bias).squeeze(-1).abs().float()


class HarmonicSource:
    """Sine waves at the pitch and its multiples, and noise, mixed to one signal."""

    def __init__(self, weights: Weights) -> None:
        self.weight = weights["m_source.l_linear.weight"].float()
        self.bias = weights["m_source.l_linear.bias"].float()
        self._norm = self.weight.square().sum().sqrt()

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

    def resumed(self, f0: Tensor, carry: Tensor, context: Tensor) -> Tensor:
        """`cycles`, going on where the last window ended.

        Args:
            f0: Hz, float32 [B, T].
            carry: Cycles after the window's first frames, which were in the last one too,
                float64 [B, 9].
            context: How many those are, int64 [B].
        """
        own = self.cycles(f0)
        return own + (carry - at_frame(own, context))[..., None]

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
        return LOUDNESS * waves.mT * _is_voiced(f0)

    def mix(self, f0: Tensor, sines: Tensor, noise: Tensor) -> Tensor:
        """The signal, float32 [B, 480 T].

        Args:
            f0: Hz, float32 [B, T].
            sines: float32 [B, 480 T, 9].
            noise: Standard normal, float32 [B, 480 T, 9].
        """
        return self.add(f0, sines, functional.linear(noise, self.weight).squeeze(-1))

    def hiss(self, noise: Tensor) -> Tensor:
        """What nine channels of noise add up to, from one: a sum of normals is normal."""
        return noise * self._norm

    def add(self, f0: Tensor, sines: Tensor, hiss: Tensor) -> Tensor:
        """`mix`, with the noise mixed already.

        Args:
            f0: Hz, float32 [B, T].
            sines: float32 [B, 480 T, 9].
            hiss: float32 [B, 480 T].
        """
        loudness = torch.where(_is_voiced(f0), VOICED_NOISE, UNVOICED_NOISE)
        mixed = functional.linear(sines, self.weight, self.bias) + loudness * hiss[..., None]
        return torch.tanh(mixed.squeeze(-1))


def at_frame(cycles: Tensor, frame: Tensor) -> Tensor:
    """A column of each clip's cycles, [B, 9, T] and int64 [B] -> [B, 9]."""
    return cycles.gather(2, frame[:, None, None].expand(-1, HARMONICS, 1)).squeeze(2)


def _is_voiced(f0: Tensor) -> Tensor:
    """By sample, bool [B, 480 T, 1]."""
    return (f0 > VOICED_HZ).repeat_interleave(HOP, -1)[..., None]
