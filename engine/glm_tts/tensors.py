"""The tensors of a checkpoint: what each part must hold, by name and shape."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor

Weights: TypeAlias = dict[str, Tensor]
"""A part's tensors by the checkpoint's names, weight norm folded into `X.weight`."""
