"""CUDA graphs of the vocoder, by the shape of a batch of windows; others run without one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

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
        self._pool = torch.cuda.graph_pool_handle() if torch.cuda.is_available() else None

    def capture(self, shapes: Iterable[tuple[int, int]], within_s: float) -> None:
        """Capture shapes, (clips, frames), the smallest first, until the time is up."""
        began = time.monotonic()
        for clips, frames in sorted(shapes, key=lambda shape: shape[0] * shape[1]):
            if time.monotonic() - began > within_s:
                break
            if (clips, frames) not in self._captured:
                self._captured[clips, frames] = self._capture(clips, frames)

    def forget(self) -> None:
        """Give the graphs' memory back, before the weights that they read are moved."""
        self._captured.clear()

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

    def _capture(self, clips: int, frames: int) -> _Captured:
        given = self._example(clips, frames)
        # Kernels are compiled, and libraries set up, outside of the capture.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._compute(*given)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            made = self._compute(*given)
        return _Captured(graph, given, made)
