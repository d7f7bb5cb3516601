"""A golden file and what is found on comparing with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from msgspec import Struct
from safetensors.torch import load_file
from torch import Tensor

from engine.glm_tts.golden_weights import golden_weights, gw
from engine.glm_tts.tensors import Shapes, Weights


class Comparison(Struct, frozen=True):
    """Of one tensor, or of one list of answers."""

    name: str
    error: float
    """Largest difference; of things that must be equal, how many are not."""
    bound: float
    remark: str = ""

    @property
    def is_near(self) -> bool:
        # Not "error > bound": an error that is not a number is none that is small.
        return self.error <= self.bound

    @property
    def line(self) -> str:
        verdict = "ok  " if self.is_near else "MISS"
        remark = f"  ({self.remark})" if self.remark else ""
        return f"{verdict} {self.name:48} {self.error:9.2e} <= {self.bound:.0e}{remark}"


class Goldens:
    """A file of tensors, on the device that is tested.

    Args:
        path: Of the file.
        device: Where to compute.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path = path
        self.device = device
        self._tensors = load_file(path) if path.suffix == ".safetensors" else {}

    @property
    def is_true(self) -> bool:
        """At the published checkpoint's sizes."""
        return self.path.stem.removesuffix("_dims").endswith("_true")

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name].to(self.device)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def get(
        self, name: str, shape: tuple[int, ...], scale: float = 1.0, shift: float = 0.0
    ) -> Tensor:
        """A tensor that may be left out of the file, for the formula gives it."""
        if name in self:
            return self[name]
        return torch.from_numpy(gw(name, shape, scale, shift)).to(self.device)

    def tags(self, ending: str) -> Iterator[str]:
        """What stands before this ending of a name, in order."""
        return (name.removesuffix(ending) for name in self._tensors if name.endswith(ending))

    def weights(self, part: str, shapes: Shapes) -> Weights:
        """From the file beside this one, else by the formula."""
        kind = "true" if self.is_true else "tiny"
        stem = self.path.stem.removesuffix("_dims")
        stored = self.path.with_name(f"{stem}_weights.safetensors")
        weights = (
            load_file(stored) if stored.is_file() else golden_weights(f"{kind}.{part}.", shapes)
        )
        return {name: tensor.to(self.device) for name, tensor in weights.items()}

    def near(self, name: str, actual: Tensor, bound: float, remark: str = "") -> Comparison:
        """Compare with the tensor of this name."""
        return self.apart(name, actual, self[name], bound, remark)

    def apart(
        self, name: str, actual: Tensor, wanted: Tensor, bound: float, remark: str = ""
    ) -> Comparison:
        """Compare numbers with others."""
        assert actual.shape == wanted.shape, (name, actual.shape, wanted.shape)
        error = (actual - wanted).abs().max().item() if actual.numel() else 0.0
        return Comparison(f"{self.path.stem}: {name}", error, bound, remark)

    def equal(self, name: str, actual: object, wanted: object, remark: str = "") -> Comparison:
        """Compare what must be the same: tensors, or lists of answers."""
        ours, theirs = _listed(actual), _listed(wanted)
        differing = sum(a != b for a, b in zip(ours, theirs, strict=True))
        return Comparison(f"{self.path.stem}: {name}", differing, 0, remark)


def _listed(values: object) -> list[object]:
    if isinstance(values, Tensor):
        return [*values.flatten().tolist()]
    assert isinstance(values, list)
    return values
