"""The flow on CUDA: half precision where it does no harm, and a solver's step as one launch.

Clips of any lengths are solved together, one behind the other. Only the number of rows is filled
up, to the smallest that was recorded as a CUDA graph; more rows than that run the same kernels,
launched one by one. Graphs that were recorded together work in the same memory, and so in one
stream.

A clip's bits depend on what is beside it through one thing alone, the number of rows: cuBLAS
chooses by it how a product is added up. In solves of as many rows (filled up) they are the same.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, TypeAlias

import torch
from torch import Tensor

from engine.glm_tts.cuda_dit import CudaDit
from engine.glm_tts.dims import FlowDims
from engine.glm_tts.flow import Flow, FlowInput, FlowOutput, Solving, time_grid
from engine.glm_tts.flow_workspace import MOST_CLIPS, Arena, Workspace, span
from engine.glm_tts.model_memory import GraphRoom, on_host
from engine.glm_tts.presets import PRESETS
from engine.glm_tts.tensors import Weights

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE

logger = logging.getLogger(__name__)

Precision: TypeAlias = Literal["tf32", "float16", "bfloat16"]

ROWS = (
    *(192, 256, 320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 1024, 1152, 1280, 1408),
    *(1600, 1792, 2048, 2304, 2624, 2944, 3328, 3776, 4096),
)
"""Of recordings. From 448 on, an eighth is filled up at most; a product's tiles are 64 or 128."""
_MOST_ROWS = ROWS[-1]
"""Of a solve of several clips: more fill no GPU better."""
_MOST_STEPS = 20
"""That a recorded solve can have; one of more is launched kernel by kernel."""
_DTYPES = {"tf32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class _Graphs(NamedTuple):
    """What was recorded of a number of rows, and the tensors that it reads and writes."""

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
        self._device = next(iter(weights.values())).device
        self._dtype = _DTYPES[precision]
        # All that `Flow` needs, for the rare clip; on the device is what all clips need.
        self._exact = {name: weight.cpu() for name, weight in weights.items()}
        plain = Flow(dims, weights)
        self._dit = CudaDit(dims, plain, self._dtype)
        usual = {preset.flow_steps for preset in PRESETS.values()}
        self._by_time = {steps: self._time_modulation(plain, steps) for steps in usual}
        self._arena: Arena | None = None
        self._graphs: dict[int, _Graphs] = {}

    @torch.inference_mode()
    def recorded(
        self, room: GraphRoom, most_rows: int = _MOST_ROWS, rows: Sequence[int] = ROWS
    ) -> Self:
        """The same with its solves recorded by their rows, for one lane. Compiles the kernels.

        Args:
            room: Where recordings take their memory from.
            most_rows: That it is made for.
            rows: To record, as far as those need it: multiples of 64, ascending.
        """
        recorded = copy(self)
        recorded._by_time = dict(self._by_time)  # noqa: SLF001  its own: made in its lane
        recorded._record_all(room, rows[: bisect_left(rows, most_rows) + 1])  # noqa: SLF001
        return recorded

    def _record_all(self, room: GraphRoom, rows: Sequence[int]) -> None:
        sizes = sorted(rows, reverse=True)
        with room.tensors():
            self._arena = Arena(self._dims, sizes[0], _MOST_STEPS, self._device)
        pool = room.pool or torch.cuda.graph_pool_handle()
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream), _tf32():
            works = [self._arena.workspace(size) for size in sizes]
            # Kernels are compiled, and libraries choose theirs, outside of the recordings.
            for work in works:
                self._dit.prepare(work)
                self._dit.step(work)
            # The largest first: the memory that it takes does for all others.
            self._graphs = {len(work.x): self._record(work, pool) for work in works}
        torch.cuda.current_stream(self._device).wait_stream(stream)
        # What the runs before the recordings took is of no use to any other stream.
        torch.cuda.empty_cache()

    @torch.inference_mode()
    def solve(
        self, clips: Sequence[FlowInput], *, steps: int = 10, cfg_rate: float = 0.7
    ) -> list[FlowOutput]:
        """See `Flow.solve`. The host waits for the device."""
        launched = self.launch(clips, steps=steps, cfg_rate=cfg_rate)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        outputs, broken = launched.outputs, launched.broken()
        again = self.mend([clips[place] for place in broken], steps=steps, cfg_rate=cfg_rate)
        for place, output in zip(broken, again, strict=True):
            outputs[place] = output
        return outputs

    @torch.inference_mode()
    def launch(
        self, clips: Sequence[FlowInput], *, steps: int = 10, cfg_rate: float = 0.7
    ) -> Solving:
        """See `Flow.launch`. The host waits for nothing."""
        solved: dict[int, tuple[FlowOutput, Tensor]] = {}
        most_rows = max(self._graphs, default=_MOST_ROWS)
        for group in group_by_rows([len(clip.noise) for clip in clips], most_rows):
            parts = self._solve([clips[place] for place in group], steps, cfg_rate)
            solved.update(zip(group, parts, strict=True))
        ordered = [solved[place] for place in range(len(clips))]
        return Solving([output for output, _ in ordered], tuple(sound for _, sound in ordered))

    @torch.inference_mode()
    def mend(
        self, clips: Sequence[FlowInput], *, steps: int = 10, cfg_rate: float = 0.7
    ) -> list[FlowOutput]:
        """See `Flow.mend`: in TF32, by weights that come from the host and leave again."""
        if not clips:
            return []
        logger.warning("flow: clips=%d left the range of numbers, solved again", len(clips))
        with _tf32():
            outputs = self._plain().solve(clips, steps=steps, cfg_rate=cfg_rate)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return outputs

    def _solve(
        self, clips: Sequence[FlowInput], steps: int, cfg_rate: float
    ) -> list[tuple[FlowOutput, Tensor]]:
        """Of each clip, and whether its mel are numbers, bool [rows] on the host."""
        rows = sum(span(len(clip.noise)) for clip in clips)
        graphs = self._recorded(rows, steps)
        if graphs is None or self._arena is None:
            arena = Arena(self._dims, rows, steps, self._device)
            work = arena.workspace(rows)
        else:
            arena, work = self._arena, graphs.work
        by_time, strides = self._times(steps)
        pull = strides[:, None] * torch.tensor([1 + cfg_rate, -cfg_rate])
        owned = arena.give(work, clips, by_time, pull)
        self._run(work, graphs, steps)
        # Copies: the next solve works in the same memory.
        x, path = work.x.clone(), work.path[:steps].clone()
        is_sound = on_host(x.isfinite().all(1))
        return [(FlowOutput(x[own], path[:, own]), is_sound[own]) for own in owned]

    def _run(self, work: Workspace, graphs: _Graphs | None, steps: int) -> None:
        if graphs is not None:
            graphs.prepare.replay()
            for _ in range(steps):
                graphs.step.replay()
            return
        with _tf32():
            self._dit.prepare(work)
            for _ in range(steps):
                self._dit.step(work)

    def _recorded(self, rows: int, steps: int) -> _Graphs | None:
        """The smallest recording of so many rows."""
        fitting = [size for size in self._graphs if size >= rows]
        return self._graphs[min(fitting)] if fitting and steps <= _MOST_STEPS else None

    def _times(self, steps: int) -> tuple[Tensor, Tensor]:
        """What the modulation has of time, [steps, K, W], and strides, on the CPU [steps]."""
        if steps not in self._by_time:
            self._by_time[steps] = self._time_modulation(self._plain(), steps)
        return self._by_time[steps], torch.tensor(time_grid(steps)[1])

    def _time_modulation(self, plain: Flow, steps: int) -> Tensor:
        return plain.dit.time_modulation(time_grid(steps)[0].to(self._device))[:, :, 0]

    def _plain(self) -> Flow:
        """In float32 on the device, for as long as it is held."""
        weights = {name: weight.to(self._device) for name, weight in self._exact.items()}
        return Flow(self._dims, weights)

    def _record(self, work: Workspace, pool: _POOL_HANDLE) -> _Graphs:
        """In a stream of its own."""
        graphs = _Graphs(work, torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph())
        # torch.cuda.graph would wait for the device and give back all free memory, each time.
        for graph, run in ((graphs.prepare, self._dit.prepare), (graphs.step, self._dit.step)):
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            run(work)
            graph.capture_end()
        return graphs


def group_by_rows(
    lengths: Sequence[int], most_rows: int = _MOST_ROWS, most_clips: int = MOST_CLIPS
) -> list[list[int]]:
    """Which clips to solve together, so that there are few solves.

    Args:
        lengths: Of the clips, in frames.
        most_rows: In a group; a clip of more is alone.
        most_clips: In a group.
    Returns:
        Places in `lengths`, each once; the longest clip goes first, and each to the first group
        that has room.
    """
    groups: list[list[int]] = []
    room: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        rows = span(lengths[place])
        fitting = (
            index
            for index, group in enumerate(groups)
            if rows <= room[index] and len(group) < most_clips
        )
        if (index := next(fitting, None)) is None:
            groups.append([place])
            room.append(most_rows - rows)
        else:
            groups[index].append(place)
            room[index] -= rows
    return groups


@contextmanager
def _tf32() -> Generator[None, None, None]:
    """Products of float32 tensors read as many bits of them as float16 has."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = True
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
