"""Matrices of int8: half the memory to read, which is what a step of the decoder waits for."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812  its name everywhere
from torch import Tensor


class Quantized(NamedTuple):
    """weight * scale[:, None], to within half a step of each row's scale."""

    weight: Tensor
    """[N, K] int8, -127 to 127."""
    scale: Tensor
    """[N] float32."""

    @classmethod
    def of(cls, matrix: Tensor) -> Quantized:
        """Round a matrix [N, K], row by row to its own largest value."""
        exact = matrix.float()
        # A row of zeros stays one.
        scale = (exact.abs().amax(1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        return cls((exact / scale[:, None]).round().to(torch.int8), scale)

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """[N, K]."""
        return (self.weight * self.scale[:, None]).to(dtype)


Matrix: TypeAlias = Tensor | Quantized
"""[N, K]."""


def linear(x: Tensor, matrix: Matrix) -> Tensor:
    """x [..., K] times a matrix [N, K]: [..., N]. Dequantises all of it at each call."""
    if isinstance(matrix, Quantized):
        matrix = matrix.dequantized(x.dtype)
    return F.linear(x, matrix)
