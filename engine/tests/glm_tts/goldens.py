"""Vectors that the original implementation gave on made-up weights; see data/glm_tts/README.md."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

GOLDENS = Path(__file__).parents[1] / "data" / "glm_tts"


def golden(name: str) -> dict[str, Tensor]:
    """All tensors of a file, by name."""
    return load_file(GOLDENS / f"{name}.safetensors")
