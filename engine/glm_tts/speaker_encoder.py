"""What a voice sounds like, as 192 numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor

from engine.errors import LoadFailed
from engine.glm_tts.audio import kaldi_fbank
from engine.glm_tts.random_weights import random_weights
from engine.glm_tts.tensors import Shapes

_BINS = 80
_WIDTH = 192
_PROBE_FRAMES = 50


class SpeakerEncoder(Protocol):
    """Tells one speaker from another."""

    def embed(self, audio: Tensor) -> Tensor:
        """The speaker of a recording.

        Args:
            audio: [T] float32 at 16 kHz, at least 1600 samples, on the CPU.
        Returns:
            [192] float32 on the CPU, not normalised.
        """
        ...


class CamPlus:
    """CAM++, as its ONNX file computes it, on one thread of the CPU.

    Args:
        path: Of the file.
    Raises:
        LoadFailed: it is missing or damaged, or computes something else.
    """

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
            shape = self._run(np.zeros((1, _PROBE_FRAMES, _BINS), np.float32)).shape
        except Exception as exc:  # the package's errors have nothing else in common
            reason = str(exc).partition("\n")[0]
            raise LoadFailed(f"the speaker encoder in {path} does not load: {reason}") from exc
        if shape != (1, _WIDTH):
            raise LoadFailed(
                f"the speaker encoder in {path} gives {shape} and not (1, {_WIDTH}): is it CAM++?"
            )

    def embed(self, audio: Tensor) -> Tensor:
        fbank = kaldi_fbank(audio[None])
        centred = fbank - fbank.mean(0)
        return torch.from_numpy(self._run(centred[None].numpy())[0])

    def _run(self, fbank: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """[1, frames, 80] -> [1, 192]."""
        name = self._session.get_inputs()[0].name
        (embedding,) = self._session.run(None, {name: fbank})
        return cast("npt.NDArray[np.float32]", embedding)


class MadeUpSpeakerEncoder:
    """Goes with made-up weights: it knows no voices, but tells recordings from each other.

    Args:
        seed: Of the directions that a spectrum's shape is measured in.
    """

    def __init__(self, seed: int) -> None:
        shapes: Shapes = {"directions": (_WIDTH, 2 * _BINS)}
        weights = random_weights("speaker", shapes, seed, torch.device("cpu"), torch.float32)
        self._directions = weights["directions"]

    def embed(self, audio: Tensor) -> Tensor:
        fbank = kaldi_fbank(audio[None])
        mean = fbank.mean(0)
        return self._directions @ torch.cat((mean - mean.mean(), fbank.std(0)))
