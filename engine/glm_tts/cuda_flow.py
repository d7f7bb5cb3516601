"""The flow on CUDA: half precision where it does no harm, and a solver's step as one launch.

Shapes that were recorded at load are replayed as CUDA graphs: clips are filled up to the smallest
that holds them. Others run the same kernels, launched one by one. All graphs work in the same
memory, and so in one stream.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from engine.glm_tts.cuda_dit import CudaDit
from engine.glm_tts.dims import FlowDims
from engine.glm_tts.flow import Batch, Flow, FlowInput, FlowOutput, group_by_length, time_grid
from engine.glm_tts.flow_workspace import Arena, Workspace
from engine.glm_tts.tensors import Weights

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE

logger = logging.getLogger(__name__)

Precision: TypeAlias = Literal["tf32", "float16", "bfloat16"]

FRAME_BUCKETS = tuple(range(128, 1025, 64))
CLIP_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16)
_MOST_FRAMES = 8192
"""Of all clips solved together, filled up: more fill no GPU better."""
_MOST_STEPS = 20
"""That a recorded solve can have; one of more is launched kernel by kernel."""
_DTYPES = {"tf32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class _Graphs(NamedTuple):
    """What was recorded of a shape, and the tensors that it reads and writes."""

    work: Workspace
    prepare: torch.cuda.CUDAGraph
    step: torch.cuda.CUDAGraph


class CudaFlow:
    """Solves clips as `Flow` does. Worker's loop only.

    Args:
        dims: Sizes.
        weights: By the checkpoint's names, float32 on one device.
        precision: Of what the layers' matrix products are given. All else is float32, its
            products in TF32. A clip that leaves float16's range is solved again by `Flow`.
    """

    def __init__(self, dims: FlowDims, weights: Weights, precision: Precision = "float16") -> None:
        self._dims = dims
        self._plain = Flow(dims, weights)
        self._device = next(iter(weights.values())).device
        self._dtype = _DTYPES[precision]
        self._dit = CudaDit(dims, self._plain.dit, self._plain.tokens, self._dtype)
        self._graphs: dict[tuple[int, int], _Graphs] = {}
        self._by_time: dict[int, Tensor] = {}

    @torch.inference_mode()
    def warm_up(
        self,
        frame_buckets: Sequence[int] = FRAME_BUCKETS,
        clip_buckets: Sequence[int] = CLIP_BUCKETS,
        *,
        within_s: float = 10.0,
    ) -> int:
        """Compile the kernels, and record the solves of clips by shape. Once, at load.

        Args:
            frame_buckets: Frames of the longest clip.
            clip_buckets: Clips solved together, fewest first.
            within_s: The last recording begins before, s; shapes that are left run unrecorded.
        Returns:
            How many shapes were recorded.
        """
        deadline = time.monotonic() + within_s
        shapes = [
            (clips, frames)
            for clips in clip_buckets
            for frames in frame_buckets
            if clips * frames <= _MOST_FRAMES
        ]
        arena = Arena(self._dims, shapes, _MOST_STEPS, self._device)
        pool = torch.cuda.graph_pool_handle()
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream), _tf32():
            # The largest first: the memory that it takes does for all others.
            for shape in [max(shapes, key=math.prod), *shapes]:
                if shape not in self._graphs and time.monotonic() < deadline:
                    self._graphs[shape] = self._record(arena.workspace(*shape), pool)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        # What the runs before the recordings took is of no use to any other stream.
        torch.cuda.empty_cache()
        return len(self._graphs)

    def forget_addresses(self) -> None:
        """Before tensors are moved: drop what was recorded."""
        self._graphs.clear()

    @torch.inference_mode()
    def solve(
        self, clips: Sequence[FlowInput], *, steps: int = 10, cfg_rate: float = 0.7
    ) -> list[FlowOutput]:
        """See `Flow.solve`. Clips of like length are solved together.

        In float16 the host waits for the device, once for each such group.
        """
        groups = group_by_length(
            [len(clip.noise) for clip in clips],
            most_clips=max(CLIP_BUCKETS),
            most_frames=_MOST_FRAMES,
        )
        solved: dict[int, FlowOutput] = {}
        for group in groups:
            outputs = self._solve([clips[place] for place in group], steps, cfg_rate)
            solved.update(zip(group, outputs, strict=True))
        return [solved[place] for place in range(len(clips))]

    def _solve(self, clips: Sequence[FlowInput], steps: int, cfg_rate: float) -> list[FlowOutput]:
        graphs = self._recorded(clips, steps)
        if graphs is None:
            batch = Batch.of(clips, steps)
            clip_count, frames = batch.tokens.shape
            work = Workspace.new(self._dims, clip_count, frames, steps, self._device)
        else:
            work = graphs.work
            batch = Batch.of(clips, steps, frames=work.tokens.shape[1])
        by_time, strides = self._times(steps)
        work.give(batch, by_time, strides[:, None] * torch.tensor([1 + cfg_rate, -cfg_rate]))
        if graphs is None:
            with _tf32():
                self._dit.prepare(work)
                for _ in range(steps):
                    self._dit.step(work)
        else:
            graphs.prepare.replay()
            for _ in range(steps):
                graphs.step.replay()
        count = len(clips)
        # Copies: the next solve works in the same memory.
        outputs = batch.outputs(work.x[:count].clone(), work.path[:steps, :count].clone())
        if self._dtype == torch.float16:
            self._mend(outputs, clips, steps, cfg_rate)
        return outputs

    def _recorded(self, clips: Sequence[FlowInput], steps: int) -> _Graphs | None:
        """The smallest recording that holds these clips."""
        frames = max(len(clip.noise) for clip in clips)
        count = len(clips)
        fitting = [shape for shape in self._graphs if shape[0] >= count and shape[1] >= frames]
        if not fitting or steps > _MOST_STEPS:
            return None
        return self._graphs[min(fitting, key=math.prod)]

    def _times(self, steps: int) -> tuple[Tensor, Tensor]:
        """What the modulation has of time, [steps, K, W], and strides, on the CPU [steps]."""
        times, strides = time_grid(steps)
        if steps not in self._by_time:
            by_time = self._plain.dit.time_modulation(times.to(self._device))
            self._by_time[steps] = by_time[:, :, 0]
        return self._by_time[steps], torch.tensor(strides)

    def _mend(
        self,
        outputs: list[FlowOutput],
        clips: Sequence[FlowInput],
        steps: int,
        cfg_rate: float,
    ) -> None:
        """Solve again in TF32 what left float16's range: it is no number, and stays none."""
        # The one thing in a solve that the host waits for.
        are_sound = torch.stack([output.mel.isfinite().all() for output in outputs]).tolist()
        broken = [place for place, is_sound in enumerate(are_sound) if not is_sound]
        if not broken:
            return
        logger.warning("flow: clips=%d left float16's range, solved again in TF32", len(broken))
        with _tf32():
            again = self._plain.solve(
                [clips[place] for place in broken], steps=steps, cfg_rate=cfg_rate
            )
        for place, output in zip(broken, again, strict=True):
            outputs[place] = output

    def _record(self, work: Workspace, pool: _POOL_HANDLE) -> _Graphs:
        """Run once, which compiles and loads kernels; then record. In a stream of its own."""
        self._dit.prepare(work)
        self._dit.step(work)
        graphs = _Graphs(work, torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph())
        # torch.cuda.graph would wait for the device and give back all free memory, each time.
        for graph, run in ((graphs.prepare, self._dit.prepare), (graphs.step, self._dit.step)):
            graph.capture_begin(pool=pool)
            run(work)
            graph.capture_end()
        return graphs


@contextmanager
def _tf32() -> Iterator[None]:
    """Products of float32 tensors read as many bits of them as float16 has."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = True
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
