"""Mel to audio at 24 kHz (HiFT), whole or frame by frame as the mel comes.

A stream's next frames are computed in a window: with the frames before them that they depend on,
computed once more, and with those after them. An end of the window that is not an end of the clip
spoils the frames near it, and they are not used; at an end of the clip the window's padding is
the clip's own. So the pieces join to what the whole clip gives.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from engine.glm_tts.dims import HiftDims
from engine.glm_tts.philox import Purpose, normals
from engine.glm_tts.source import HARMONICS, HOP, SAMPLE_RATE, Conv, HarmonicSource, PitchPredictor
from engine.glm_tts.tensors import Weights

_UPSAMPLING = (8, 5, 3)
_SOURCE_STRIDES = (15, 3, 1)
_BRANCHES = 3
_DILATIONS = (1, 3, 5)
_SLOPE = 0.1
_LAST_SLOPE = 0.01
_WINDOW = 16
"""Samples of the short spectra, four of them to a frame's hop."""
_STRIDE = 4
_BINS = _WINDOW // 2 + 1
_LOUDEST = 100.0
_CEILING = 0.99


@dataclass
class VocoderState:
    """How far a stream has come. Made by `begin`, changed by `vocode`; the worker's loop only.

    Attributes:
        seed: Of the source's noise.
        mels: float32 [T, 80]: `context` frames whose audio is given, then those that wait.
        context: Frames.
        given: Frames of the clip whose audio is given.
        carry: What else the next window needs of the last. Hift: each harmonic's phase at the
            middle of the last frame given, in cycles, float64 [9]. Vocos: what it made of the
            samples that follow those given, float32 [S].
    """

    seed: int
    mels: Tensor
    carry: Tensor
    context: int = 0
    given: int = 0

    @property
    def waiting(self) -> int:
        """Frames whose audio is not given."""
        return len(self.mels) - self.context

    def advance(self, frames: int, keep: int) -> None:
        """Count the next frames as given, and keep so many before the next as context."""
        given = self.context + frames
        self.context = min(given, keep)
        self.mels = self.mels[given - self.context :]
        self.given += frames


class Vocoder(ABC):
    """Mel to audio, for several streams at once."""

    sample_rate: int
    """Hz."""
    context_frames: int
    """Frames before the next that its audio depends on."""
    hold_frames: int
    """Frames after it."""

    @abstractmethod
    def begin(self, seed: int) -> VocoderState:
        """A stream's state before its first frame.

        Args:
            seed: Any that fits int64; the same one repeats the audio.
        """

    @abstractmethod
    def _render(self, states: Sequence[VocoderState], frames: Sequence[int]) -> list[Tensor]:
        """Audio of each stream's next frames; the streams hold equally many.

        Sets what they carry; `vocode` does the rest.
        """

    @torch.inference_mode()
    def vocode(
        self, mels: Sequence[Tensor], states: Sequence[VocoderState], is_last: Sequence[bool]
    ) -> list[Tensor]:
        """Audio that follows what was given before.

        Until a stream's last frames, the audio of `hold_frames` frames is held back.

        Args:
            mels: Of each stream the next frames, none or more, float32 [T, 80].
            states: Of each stream, one only once; changed.
            is_last: No frame will follow.
        Returns:
            Of each stream what can be given now, float32 [samples].
        """
        audio = [state.mels.new_empty(0) for state in states]
        alike: defaultdict[int, list[int]] = defaultdict(list)
        frames = []
        for index, (state, new, last) in enumerate(zip(states, mels, is_last, strict=True)):
            state.mels = torch.cat((state.mels, new))
            frames.append(state.waiting - (0 if last else self.hold_frames))
            if frames[index] > 0:
                alike[len(state.mels)].append(index)
        for group in alike.values():
            rendered = self._render([states[at] for at in group], [frames[at] for at in group])
            for at, samples in zip(group, rendered, strict=True):
                audio[at] = samples
                states[at].advance(frames[at], self.context_frames)
        return audio


class Hift(Vocoder):
    """The vocoder at 24 kHz.

    Streamed audio is that of the whole clip but for the rounding of convolutions whose length or
    batch differs: measured 3e-6 of full scale in float32. It does not grow with the clip, for
    pitch and phase do not depend on the cut.

    Args:
        dims: Sizes.
        weights: By the checkpoint's names, weight norm folded, on one device.
    """

    sample_rate = SAMPLE_RATE
    # The mel alone reaches 14 frames. Through the source it is 20: 15 from the first stage's
    # residual blocks, strides and spectra to a frame's samples, and 5 from there to its pitch.
    context_frames = 20
    hold_frames = 20

    def __init__(self, dims: HiftDims, weights: Weights) -> None:
        self._mels = dims.mels
        self._pitch = PitchPredictor(weights)
        self._source = HarmonicSource(weights)
        self._network = _Network(weights)
        self._device = weights["conv_pre.weight"].device

    def begin(self, seed: int) -> VocoderState:
        return VocoderState(
            seed=seed,
            mels=torch.zeros(0, self._mels, device=self._device),
            carry=torch.zeros(HARMONICS, dtype=torch.float64, device=self._device),
        )

    @torch.inference_mode()
    def whole(self, mels: Tensor, noise: Tensor) -> Tensor:
        """Audio of whole clips of one length, with noise that is given.

        Args:
            mels: float32 [B, T, 80].
            noise: Standard normal, float32 [B, 480 T, 9].
        Returns:
            float32 [B, 480 T].
        """
        f0 = self._pitch(mels.mT)
        return self._audio(mels, f0, self._source.cycles(f0), noise)

    def _render(self, states: Sequence[VocoderState], frames: Sequence[int]) -> list[Tensor]:
        mels = torch.stack([state.mels for state in states])
        f0 = self._pitch(mels.mT)
        # A window's own count starts at its first frame: shift it to go on where the last ended.
        shifted = [
            own + (state.carry - own[:, state.context])[:, None]
            for own, state in zip(self._source.cycles(f0), states, strict=True)
        ]
        audio = self._audio(mels, f0, torch.stack(shifted), self._noise(states))
        parts = []
        for samples, cycles, state, count in zip(audio, shifted, states, frames, strict=True):
            end = state.context + count
            state.carry = cycles[:, end].frac()
            parts.append(samples[HOP * state.context : HOP * end])
        return parts

    def _audio(self, mels: Tensor, f0: Tensor, cycles: Tensor, noise: Tensor) -> Tensor:
        sines = self._source.sines(f0, cycles[..., 1:])
        return self._network(mels.mT, self._source.mix(f0, sines, noise))

    def _noise(self, states: Sequence[VocoderState]) -> Tensor:
        """By sample of the clip, whatever window it is in; float32 [B, 480 T, 9]."""
        seeds = torch.tensor([state.seed for state in states], device=self._device)
        starts = [[HOP * (state.given - state.context)] for state in states]
        window = torch.arange(HOP * len(states[0].mels), device=self._device)
        samples = torch.tensor(starts, device=self._device) + window
        return normals(seeds, Purpose.SOURCE, samples, HARMONICS)


class _Network:
    """Upsamples the mel in three stages, adds the source to each, and ends in a short spectrum.

    Works in the precision of its weights.
    """

    def __init__(self, weights: Weights) -> None:
        self._first = Conv.of(weights, "conv_pre")
        self._stages = [_Stage.of(weights, index) for index in range(len(_UPSAMPLING))]
        self._last = Conv.of(weights, "conv_post")
        self._spectrum = _ShortSpectrum(self._first.weight.device)

    def __call__(self, mels: Tensor, source: Tensor) -> Tensor:
        """float32 [B, 80, T] and [B, 480 T] -> audio, float32 [B, 480 T]."""
        dtype = self._first.weight.dtype
        spectrum = self._spectrum.analyse(source).to(dtype)
        x = self._first(mels.to(dtype))
        for index, stage in enumerate(self._stages):
            x = stage.upsample(functional.leaky_relu(x, _SLOPE), _UPSAMPLING[index])
            if stage is self._stages[-1]:
                # A spectrum of N strides has N + 1 columns.
                x = functional.pad(x, (1, 0), mode="reflect")
            x = stage.blend(x, spectrum, _SOURCE_STRIDES[index])
        x = self._last(functional.leaky_relu(x, _LAST_SLOPE)).float()
        magnitude = x[:, :_BINS].exp().clamp(max=_LOUDEST)
        phase = x[:, _BINS:].sin()
        polar = torch.cat((magnitude * phase.cos(), magnitude * phase.sin()), 1)
        return self._spectrum.synthesize(polar).clamp(-_CEILING, _CEILING)


class _ShortSpectrum:
    """Spectra of 16 samples, real parts above imaginary, and the audio that has such spectra."""

    def __init__(self, device: torch.device) -> None:
        window = torch.hann_window(_WINDOW, dtype=torch.float64)
        turns = torch.arange(_BINS)[:, None] * torch.arange(_WINDOW) / _WINDOW
        angles = 2 * math.pi * turns.double()
        waves = torch.cat((angles.cos(), -angles.sin()))[:, None] * window
        # All bins but the first and the last stand for two.
        twice = torch.full((_BINS,), 2.0, dtype=torch.float64)
        twice[[0, -1]] = 1
        self._analysis = waves.float().to(device)
        self._synthesis = (waves * twice.repeat(2)[:, None, None] / _WINDOW).float().to(device)
        self._overlap = window.square()[None, None].float().to(device)

    def analyse(self, audio: Tensor) -> Tensor:
        """[B, 4 N] -> [B, 18, N + 1]; the audio is mirrored at its ends."""
        padded = functional.pad(audio[:, None], (_WINDOW // 2, _WINDOW // 2), mode="reflect")
        return functional.conv1d(padded, self._analysis, stride=_STRIDE)

    def synthesize(self, spectrum: Tensor) -> Tensor:
        """[B, 18, N + 1] -> [B, 4 N]."""
        # torch.istft would look at the sum of its windows on the host.
        added = functional.conv_transpose1d(spectrum, self._synthesis, stride=_STRIDE)
        ones = torch.ones_like(spectrum[:1, :1])
        weight = functional.conv_transpose1d(ones, self._overlap, stride=_STRIDE)
        inner = slice(_WINDOW // 2, -_WINDOW // 2)
        return added[:, 0, inner] / weight[:, 0, inner]


class _Snake(NamedTuple):
    alpha: Tensor
    """[C, 1]."""

    def __call__(self, x: Tensor) -> Tensor:
        return x + torch.sin(self.alpha * x).square() / (self.alpha + 1e-9)


class _Residual(NamedTuple):
    """Convolutions that see further and further, each added to what it saw."""

    steps: list[tuple[_Snake, Conv, _Snake, Conv]]

    @classmethod
    def of(cls, weights: Weights, name: str) -> _Residual:
        def half(side: int, step: int) -> tuple[_Snake, Conv]:
            alpha = weights[f"{name}.activations{side}.{step}.alpha"]
            return _Snake(alpha[:, None]), Conv.of(weights, f"{name}.convs{side}.{step}")

        return cls([(*half(1, step), *half(2, step)) for step in range(len(_DILATIONS))])

    def __call__(self, x: Tensor) -> Tensor:
        for dilation, (before, wide, between, narrow) in zip(_DILATIONS, self.steps, strict=True):
            x = x + narrow(between(wide(before(x), dilation)))
        return x


class _Stage(NamedTuple):
    """One step of the upsampling, and what follows at its rate."""

    up: Conv
    source_down: Conv
    source: _Residual
    branches: list[_Residual]

    @classmethod
    def of(cls, weights: Weights, index: int) -> _Stage:
        return cls(
            up=Conv.of(weights, f"ups.{index}"),
            source_down=Conv.of(weights, f"source_downs.{index}"),
            source=_Residual.of(weights, f"source_resblocks.{index}"),
            branches=[
                _Residual.of(weights, f"resblocks.{_BRANCHES * index + branch}")
                for branch in range(_BRANCHES)
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
