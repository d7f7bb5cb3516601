"""Mel to audio at 32 kHz, by a TorchScript file whose architecture nobody has published."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from engine.errors import LoadFailed
from engine.glm_tts.model_memory import GraphRoom
from engine.glm_tts.vocoder import Vocoder, VocoderState

_MELS = 80
_HOP = 640
_SHIFT = -7.847762537473608
"""Between the mel that the flow makes and the one that the file was trained on."""
_FADE_FRAMES = 5
_PROBE_FRAMES = 8


class Vocos(Vocoder):
    """The vocoder at 32 kHz.

    How far its frames see each other is not known, so a stream is exact only if it is no further
    than 32 frames back and 15 ahead. If it is, each window differs a little from the whole clip;
    that is not heard at a joint, for 0.1 s of what the last window made there fades out under the
    next. One window (a clip in one piece) is exact in any case.

    Args:
        path: Of the file.
        device: Where it computes.
    Raises:
        LoadFailed: it is missing or damaged, or computes something else.
    """

    sample_rate = 32_000
    context_frames = 32
    hold_frames = 20

    def __init__(self, path: Path, device: torch.device) -> None:
        self._device = device
        try:
            with warnings.catch_warnings():
                # Deprecated, but the one format that the file comes in.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._module = torch.jit.load(path, map_location=device).eval()  # type: ignore[no-untyped-call]
            with torch.inference_mode():
                shape = self._audio(torch.zeros(1, _PROBE_FRAMES, _MELS, device=device)).shape
        except Exception as exc:  # the package's errors have nothing else in common
            reason = str(exc).partition("\n")[0]
            raise LoadFailed(f"the 32 kHz vocoder in {path} does not load: {reason}") from exc
        # A frame fewer where each stands in the middle of its samples.
        if shape not in {(1, _HOP * _PROBE_FRAMES), (1, _HOP * (_PROBE_FRAMES - 1))}:
            raise LoadFailed(
                f"the 32 kHz vocoder in {path} makes {tuple(shape)} of {_PROBE_FRAMES} frames "
                f"and not {_HOP} samples of each"
            )

    def recorded(
        self,
        frame_counts: Sequence[int],  # noqa: ARG002
        stream_counts: Sequence[int],  # noqa: ARG002
        room: GraphRoom,  # noqa: ARG002
    ) -> Self:
        """Nothing is recorded here: the file runs as it comes."""
        return self

    def begin(self, seed: int) -> VocoderState:
        nothing = torch.zeros(0, device=self._device)
        return VocoderState(seed=seed, mels=nothing.reshape(0, _MELS), carry=nothing)

    def _render(self, states: Sequence[VocoderState], frames: Sequence[int]) -> list[Tensor]:
        audio = self._audio(torch.stack([state.mels for state in states]))
        parts = []
        for samples, state, count in zip(audio, states, frames, strict=True):
            start, end = _HOP * state.context, _HOP * (state.context + count)
            joined = _fade(state.carry, samples[start:])
            state.carry = joined[end - start :][: _HOP * _FADE_FRAMES]
            parts.append(joined[: end - start])
        return parts

    def _audio(self, mels: Tensor) -> Tensor:
        """[B, T, 80] -> float32 [B, 640 T], or 640 samples fewer."""
        is_alone = mels.shape[1] == 1
        if is_alone:
            # The file needs two frames.
            mels = mels.repeat(1, 2, 1)
        audio: Tensor = self._module(mels + _SHIFT)
        return audio.float()[:, :_HOP] if is_alone else audio.float()


def _fade(out: Tensor, into: Tensor) -> Tensor:
    """From one version of a sound to another, float32 [n] and [m >= n] -> [m]."""
    overlap = len(out)
    ramp = torch.linspace(0, 1, overlap, device=out.device)
    return torch.cat((torch.lerp(out, into[:overlap], ramp), into[overlap:]))
