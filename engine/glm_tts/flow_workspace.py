"""The tensors that one solve of the flow reads and writes, at addresses that do not change."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from engine.glm_tts.dims import FlowDims
from engine.glm_tts.flow import Batch

_Shapes: TypeAlias = dict[str, tuple[torch.dtype, tuple[int, ...]]]


class Workspace(NamedTuple):
    """All that a solve of B clips of up to T frames in up to S steps reads and writes."""

    # Given for each solve.
    lengths: Tensor
    """int32 [B]: the clips' own frames."""
    tokens: Tensor
    """int64 [B, T], each frame's."""
    places: Tensor
    """int64 [B, T]."""
    condition: Tensor
    """float32 [B, T, 80]."""
    speakers: Tensor
    """float32 [B, 192], of length 1."""
    limits: Tensor
    """int32 [B, T], from 1 to T: a frame attends to those before its limit."""
    is_pinned: Tensor
    """bool [B, T, 1]."""
    by_time: Tensor
    """float32 [S, K, W]: the modulation that each step's time makes."""
    pull: Tensor
    """float32 [S, 2, 1, 1]: of the guided velocity and of the free one."""
    path: Tensor
    """float32 [S, B, T, 80]: given where frames are pinned; then x before each step."""
    x: Tensor
    """float32 [B, T, 80]: noise, then mel."""
    now: Tensor
    """int64 [1]: the step that comes next, from 0."""
    # Made by `prepare`: the first half with prompt and speaker, then the one without.
    inputs: Tensor
    """float32 [2 B, T, W]: the input projection but for x's part of it."""
    cosines: Tensor
    """float32 [B, T, D / 2]."""
    sines: Tensor
    """Likewise."""
    by_speaker: Tensor
    """float32 [2 B, K, W]: the speaker's part of the modulation."""

    @classmethod
    def new(
        cls, dims: FlowDims, clips: int, frames: int, steps: int, device: torch.device
    ) -> Workspace:
        """One with memory of its own, zero."""
        shapes = _shapes(dims, clips, frames, steps)
        return cls(
            **{
                name: torch.zeros(shape, dtype=dtype, device=device)
                for name, (dtype, shape) in shapes.items()
            }
        )

    def give(self, batch: Batch, by_time: Tensor, pull: Tensor) -> None:
        """Write down what to solve.

        Args:
            batch: B clips at most, filled up to T frames.
            by_time: float32 [steps, K, W].
            pull: float32 [steps, 2].
        """
        clips, frames = batch.tokens.shape
        # Rows without a clip hold any numbers, but must not lead out of the tensors.
        lengths = [*batch.lengths, *[1] * (len(self.lengths) - clips)]
        self.lengths.copy_(torch.tensor(lengths), non_blocking=True)
        self.limits.fill_(1)
        self.limits[:clips] = frames if batch.limits is None else batch.limits
        self.tokens[:clips] = batch.tokens
        self.places[:clips] = batch.places
        self.condition[:clips] = batch.condition
        self.speakers[:clips] = batch.speakers
        self.x[:clips] = batch.noise
        self.is_pinned.zero_()
        if batch.pinned is not None:
            self.is_pinned[:clips], self.path[: len(pull), :clips] = batch.pinned
        self.by_time[: len(pull)] = by_time
        self.pull[: len(pull), :, 0, 0].copy_(pull, non_blocking=True)


class Arena:
    """Memory for workspaces of several shapes, of which one is in use at a time.

    Args:
        dims: Sizes.
        shapes: Clips and frames of each.
        steps: Of a solve, at most.
        device: Where.
    """

    def __init__(
        self, dims: FlowDims, shapes: Iterable[tuple[int, int]], steps: int, device: torch.device
    ) -> None:
        self._dims = dims
        self._steps = steps
        sizes: dict[str, int] = {}
        dtypes: dict[str, torch.dtype] = {}
        for clips, frames in shapes:
            for name, (dtype, shape) in _shapes(dims, clips, frames, steps).items():
                sizes[name] = max(sizes.get(name, 0), math.prod(shape))
                dtypes[name] = dtype
        self._memory = {
            name: torch.zeros(size, dtype=dtypes[name], device=device)
            for name, size in sizes.items()
        }

    def workspace(self, clips: int, frames: int) -> Workspace:
        """One of a shape that the arena was made for."""
        shapes = _shapes(self._dims, clips, frames, self._steps)
        return Workspace(
            **{
                name: self._memory[name][: math.prod(shape)].view(shape)
                for name, (_, shape) in shapes.items()
            }
        )


def _shapes(dims: FlowDims, clips: int, frames: int, steps: int) -> _Shapes:
    grid, modulations = (clips, frames), 6 * dims.depth + 2
    exact, half = torch.float32, dims.head_dim // 2
    return {
        "lengths": (torch.int32, (clips,)),
        "tokens": (torch.int64, grid),
        "places": (torch.int64, grid),
        "condition": (exact, (*grid, dims.mels)),
        "speakers": (exact, (clips, dims.speaker)),
        "limits": (torch.int32, grid),
        "is_pinned": (torch.bool, (*grid, 1)),
        "by_time": (exact, (steps, modulations, dims.width)),
        "pull": (exact, (steps, 2, 1, 1)),
        "path": (exact, (steps, *grid, dims.mels)),
        "x": (exact, (*grid, dims.mels)),
        "now": (torch.int64, (1,)),
        "inputs": (exact, (2 * clips, frames, dims.width)),
        "cosines": (exact, (*grid, half)),
        "sines": (exact, (*grid, half)),
        "by_speaker": (exact, (2 * clips, modulations, dims.width)),
    }
