"""Mel to audio, frame by frame as the mel comes.

A stream's next frames are computed in a window: with the frames before them that they depend on,
computed once more, and with those after them. An end of the window that is not an end of the clip
spoils the frames near it, and they are not used; at an end of the clip the window's padding is
the clip's own. So the pieces join to what the whole clip gives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from engine.glm_tts.dims import HiftDims
from engine.glm_tts.hift import HiftNetwork, Precision, network_of
from engine.glm_tts.model_memory import GraphRoom
from engine.glm_tts.philox import Purpose, normals
from engine.glm_tts.source import (
    HARMONICS,
    HOP,
    SAMPLE_RATE,
    HarmonicSource,
    PitchPredictor,
    at_frame,
)
from engine.glm_tts.tensors import Weights
from engine.glm_tts.vocoder_graphs import WindowGraphs

_MOST_FRAMES = 1280
"""In one batch, for its memory; more gain a tenth in speed."""
_NOBODY = (0, 0, 0, 1, 1)
"""The place of a window that fills up a batch."""


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

    def place(self, frames: int) -> tuple[int, int, int, int, int]:
        """Seed, first frame in the clip, context, where `frames` more end, frames there are."""
        start = self.given - self.context
        return self.seed, start, self.context, self.context + frames, len(self.mels)

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
    def recorded(
        self, frame_counts: Sequence[int], stream_counts: Sequence[int], room: GraphRoom
    ) -> Self:
        """The same, fast in one lane for windows of these lengths, of so many streams at once."""

    @abstractmethod
    def begin(self, seed: int) -> VocoderState:
        """A stream's state before its first frame.

        Args:
            seed: Any that fits int64; the same one repeats the audio.
        """

    @abstractmethod
    def _render(self, states: Sequence[VocoderState], frames: Sequence[int]) -> list[Tensor]:
        """Audio of each stream's next frames; the streams have equal `_width`.

        Sets what they carry; `vocode` does the rest.
        """

    def _width(self, frames: int) -> int:
        """What windows of so many frames have in common with those that share their batch."""
        return frames

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
                alike[self._width(len(state.mels))].append(index)
        for group in alike.values():
            rendered = self._render([states[at] for at in group], [frames[at] for at in group])
            for at, samples in zip(group, rendered, strict=True):
                audio[at] = samples
                states[at].advance(frames[at], self.context_frames)
        return audio


class Hift(Vocoder):
    """The vocoder at 24 kHz.

    Streamed audio is that of the whole clip. On a CPU it is but for the rounding of convolutions
    whose length or batch differs: measured 3e-6 of full scale in float32. It does not grow with
    the clip, for pitch and phase do not depend on the cut. On CUDA with Triton windows of
    different lengths share a batch.

    Args:
        dims: Sizes.
        weights: By the checkpoint's names, weight norm folded, on one device.
        precision: Of the convolutions on CUDA.
    """

    sample_rate = SAMPLE_RATE
    # The mel alone reaches 14 frames. Through the source it is 20: 15 from the first stage's
    # residual blocks, strides and spectra to a frame's samples, and 5 from there to its pitch.
    context_frames = 20
    hold_frames = 20

    def __init__(self, dims: HiftDims, weights: Weights, precision: Precision = "float32") -> None:
        self._mels = dims.mels
        self._pitch = PitchPredictor(weights)
        self._source = HarmonicSource(weights)
        self._device = weights["conv_pre.weight"].device
        self._network = network_of(dims, weights, precision)
        # Windows of a batch may differ in length.
        self._is_ragged = not isinstance(self._network, HiftNetwork)
        self._graphs = WindowGraphs(self._compute, self._example)

    @torch.inference_mode()
    def recorded(
        self, frame_counts: Sequence[int], stream_counts: Sequence[int], room: GraphRoom
    ) -> Self:
        """See `Vocoder`.

        Shorter windows are filled up, longer ones run as they are; so streams. The very same where
        there are no CUDA graphs.
        """
        if not self._is_ragged or self._device.type != "cuda":
            return self
        recorded = copy(self)
        graphs = recorded._graphs = WindowGraphs(self._compute, self._example)  # noqa: SLF001
        shapes = product(stream_counts, frame_counts)
        graphs.capture((x for x in shapes if prod(x) <= _MOST_FRAMES), room)
        return recorded

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
        sines = self._source.sines(f0, self._source.cycles(f0)[..., 1:])
        return self._network(mels.mT, self._source.mix(f0, sines, noise))

    def _width(self, frames: int) -> int:
        return self._graphs.frames(frames)

    def _render(self, states: Sequence[VocoderState], frames: Sequence[int]) -> list[Tensor]:
        width = self._width(len(states[0].mels))
        most = self._graphs.most_clips(width) or max(1, _MOST_FRAMES // width)
        if len(states) > most:
            first = self._render(states[:most], frames[:most])
            return first + self._render(states[most:], frames[most:])
        more = self._graphs.clips(len(states), width) - len(states)
        places = [state.place(count) for state, count in zip(states, frames, strict=True)]
        mels = torch.zeros(len(states) + more, width, self._mels, device=self._device)
        for row, state in zip(mels, states, strict=False):
            row[: len(state.mels)] = state.mels
        carry = torch.stack([state.carry for state in states])
        audio, carry = self._graphs(
            mels,
            functional.pad(carry, (0, 0, 0, more)),
            torch.tensor(places + [_NOBODY] * more).to(self._device, non_blocking=True),
        )
        for state, own in zip(states, carry, strict=False):
            state.carry = own
        ends = [HOP * place[3] for place in places]
        starts = [HOP * state.context for state in states]
        return [row[a:b] for row, a, b in zip(audio, starts, ends, strict=False)]

    def _compute(self, mels: Tensor, carry: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Audio of windows, float32 [B, 480 T], and what the next ones carry, float64 [B, 9].

        Args:
            mels: float32 [B, T, 80], zeros where a window has ended.
            carry: float64 [B, 9].
            places: int64 [B, 5], of each window its state's `place`.
        """
        seeds, first, context, end, frames = places.T.contiguous()
        f0 = self._pitch(mels.mT, frames if self._is_ragged else None)
        cycles = self._source.resumed(f0, carry, context)
        rows = first[:, None] + torch.arange(mels.shape[1], device=self._device)
        # A number for each sample of the clip, whatever window it is in.
        noise = normals(seeds, Purpose.SOURCE, rows, HOP).flatten(1)
        hiss = self._source.hiss(noise)
        if isinstance(self._network, HiftNetwork):
            sines = self._source.sines(f0, cycles[..., 1:])
            audio = self._network(mels.mT, self._source.add(f0, sines, hiss))
        else:
            source = self._network.mix(f0, cycles, hiss, frames)
            audio = self._network(mels.mT, source, frames)
        return audio, at_frame(cycles, end).frac()

    def _example(self, clips: int, frames: int) -> tuple[Tensor, ...]:
        mels = torch.zeros(clips, frames, self._mels, device=self._device)
        carry = mels.new_zeros(clips, HARMONICS, dtype=torch.float64)
        return mels, carry, torch.tensor([(*_NOBODY[:-1], frames)] * clips, device=self._device)
