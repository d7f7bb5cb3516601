"""CUDA graphs of the vocoder, by the shape of a batch of windows; others run without one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
from torch import Tensor

from engine.glm_tts.model_memory import GraphRoom

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE

Compute: TypeAlias = Callable[..., tuple[Tensor, ...]]
"""Tensors to tensors; the shapes of what comes out depend on those of what goes in alone."""


class _Captured(NamedTuple):
    graph: torch.cuda.CUDAGraph
    given: tuple[Tensor, ...]
    made: tuple[Tensor, ...]


class WindowGraphs:
    """Runs a computation as one launch where it was captured. Worker's loop only.

    Args:
        compute: What to run.
        example: Clips and frames -> inputs that `compute` can work with.
    """

    def __init__(self, compute: Compute, example: Callable[[int, int], tuple[Tensor, ...]]) -> None:
        self._compute = compute
        self._example = example
        self._captured: dict[tuple[int, int], _Captured] = {}

    def capture(self, shapes: Iterable[tuple[int, int]], room: GraphRoom) -> None:
        """Capture shapes, (clips, frames)."""
        pool = room.pool or torch.cuda.graph_pool_handle()
        # One for all: libraries keep memory for each stream that they have worked in.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        # The largest first: the memory that it takes does for all others.
        for clips, frames in sorted(shapes, key=math.prod, reverse=True):
            with room.tensors():
                given = self._example(clips, frames)
            self._captured[clips, frames] = self._capture(given, pool, stream)
        # What the runs before the captures took is of no use to any other stream.
        torch.cuda.empty_cache()

    def frames(self, least: int) -> int:
        """How long to make a window of `least` frames: as the next longer one captured."""
        longer = [frames for _, frames in self._captured if frames >= least]
        return min(longer, default=least)

    def clips(self, least: int, frames: int) -> int:
        """To how many to fill up a batch of `least` windows of so many frames."""
        return min((clips for clips in self._counts(frames) if clips >= least), default=least)

    def most_clips(self, frames: int) -> int | None:
        """The largest batch captured of windows of so many frames."""
        return max(self._counts(frames), default=None)

    def _counts(self, frames: int) -> list[int]:
        return [clips for clips, each in self._captured if each == frames]

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        """What `compute` makes of them, [B, T, ...] first; copies, which are the caller's."""
        captured = self._captured.get((given[0].shape[0], given[0].shape[1]))
        if captured is None:
            return self._compute(*given)
        for place, tensor in zip(captured.given, given, strict=True):
            place.copy_(tensor, non_blocking=True)
        captured.graph.replay()
        return tuple(tensor.clone() for tensor in captured.made)

    def _capture(
        self, given: tuple[Tensor, ...], pool: _POOL_HANDLE, stream: torch.cuda.Stream
    ) -> _Captured:
        # Kernels are compiled, and libraries set up, outside of the capture.
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._compute(*given)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            made = self._compute(*given)
        return _Captured(graph, given, made)
