"""From speech tokens to mel: noise is moved along the estimator's velocity in a few steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import torch
from msgspec import Struct
from torch import Tensor
from torch.nn import functional

from engine.glm_tts.dims import FlowDims
from engine.glm_tts.dit import Dit, Shared
from engine.glm_tts.model_memory import GraphRoom
from engine.glm_tts.tensors import Weights
from engine.glm_tts.token_branch import TokenBranch, tokens_of_frames

FRAMES_PER_TOKEN = 2


class FlowInput(NamedTuple):
    """One clip, or one window of a stream. All on the flow's device."""

    tokens: Tensor
    """int64 [N]: of the prompt, the context, the new speech and what follows it."""
    condition: Tensor
    """float32 [P, 80]: the prompt's mel. Its last min(P, T) frames stand at the clip's start."""
    speaker: Tensor
    """float32 [192], of any length."""
    noise: Tensor
    """float32 [T, 80], where the solver starts; T are the clip's frames, 2 N at most."""
    pinned: Tensor | None = None
    """float32 [steps, Q, 80]: where the first Q frames are put before each step."""
    limits: Tensor | None = None
    """int64 [T], at least 1 each: frame i attends to those before limits[i]. None: to all."""
    places: Tensor | None = None
    """int64 [T]: where in the whole speech each frame stands. None: where it stands here."""


class FlowOutput(NamedTuple):
    """What became of a clip. Views into the tensors of its whole batch."""

    mel: Tensor
    """float32 [T, 80], the prompt's frames included."""
    trajectory: Tensor
    """float32 [steps, T, 80]: x before each step."""


class Solving(Struct, frozen=True):
    """Clips that the device works on, or has solved."""

    outputs: list[FlowOutput]
    is_sound: tuple[Tensor, ...] = ()
    """Of each, bool [rows] on the host, there when the device has finished: whether its mel are
    numbers. Empty: they are."""

    def broken(self) -> list[int]:
        """Which clips are to be mended. When the device has finished."""
        return [place for place, rows in enumerate(self.is_sound) if not rows.all()]


class Flow:
    """Solves clips in batches; each comes out as it would alone. Worker's loop only.

    Args:
        dims: Sizes.
        weights: By the checkpoint's names, on one device.
    """

    def __init__(self, dims: FlowDims, weights: Weights) -> None:
        estimator = {name.removeprefix("estimator."): value for name, value in weights.items()}
        self.tokens = TokenBranch(dims, estimator)
        self.dit = Dit(dims, estimator)

    def recorded(self, room: GraphRoom, most_rows: int) -> Self:  # noqa: ARG002
        """Nothing is recorded here: each operation runs as it comes."""
        return self

    @torch.inference_mode()
    def solve(
        self, clips: Sequence[FlowInput], *, steps: int = 10, cfg_rate: float = 0.7
    ) -> list[FlowOutput]:
        """Turn noise into mel.

        Args:
            clips: One at least, of any lengths.
            steps: Of the solver. Twice as many take twice as long.
            cfg_rate: How far to go beyond what prompt and speaker ask for, away from what would
                be said without them. 0: not at all.
        Returns:
            For each clip, in order.
        """
        batch = Batch.of(clips, steps)
        # All clips with their prompt and speaker, then all without, as one batch.
        shared = self._shared(batch)
        by_speaker = self.dit.speaker_modulation(with_and_without(batch.speakers))
        times, strides = time_grid(steps)
        by_time = self.dit.time_modulation(times.to(batch.noise.device))

        x = batch.noise
        path = []
        for step, stride in enumerate(strides):
            x = batch.pin(x, step)
            path.append(x)
            velocity = self.dit.velocity(_twice(x), by_time[step] + by_speaker, shared)
            guided, free = velocity.chunk(2)
            x = x + stride * ((1 + cfg_rate) * guided - cfg_rate * free)
        return batch.outputs(x, torch.stack(path))

    def launch(
        self, clips: Sequence[FlowInput], *, steps: int = 10, cfg_rate: float = 0.7
    ) -> Solving:
        """Begin to solve, and let the device go on by itself."""
        return Solving(self.solve(clips, steps=steps, cfg_rate=cfg_rate))

    def mend(
        self, clips: Sequence[FlowInput], *, steps: int = 10, cfg_rate: float = 0.7
    ) -> list[FlowOutput]:
        """Solve again, more exactly, what is no numbers."""
        return self.solve(clips, steps=steps, cfg_rate=cfg_rate)

    def _shared(self, batch: Batch) -> Shared:
        real = batch.real()
        tokens = self.tokens(batch.tokens, batch.places, real)
        return Shared(
            inputs=self.dit.inputs(with_and_without(batch.condition), _twice(tokens)),
            real=_twice(real),
            rotation=self.dit.rotation(_twice(batch.places)),
            visible=_visible(batch),
        )


class Batch(NamedTuple):
    """Clips side by side, filled up to T frames each."""

    lengths: list[int]
    tokens: Tensor
    """int64 [B, T], each frame's."""
    places: Tensor
    """int64 [B, T]."""
    condition: Tensor
    """float32 [B, T, 80]."""
    speakers: Tensor
    """float32 [B, 192], of length 1."""
    noise: Tensor
    """float32 [B, T, 80]."""
    limits: Tensor | None
    """int64 [B, T]: as in FlowInput; 1 beyond a clip's end. None: each frame sees all T."""
    pinned: tuple[Tensor, Tensor] | None
    """Whether a frame is, bool [B, T, 1], and where to, float32 [steps, B, T, 80]."""

    @classmethod
    def of(cls, clips: Sequence[FlowInput], steps: int) -> Batch:
        """Put clips side by side, for so many steps."""
        lengths = [len(clip.noise) for clip in clips]
        frames = max(lengths)
        return cls(
            lengths=lengths,
            tokens=_frame_tokens(clips, frames),
            places=_stacked(map(_places, clips), frames),
            condition=_stacked(map(condition_of, clips), frames),
            speakers=functional.normalize(torch.stack([clip.speaker for clip in clips])),
            noise=_stacked((clip.noise for clip in clips), frames),
            limits=_limits(clips, frames),
            pinned=_pinned(clips, steps, frames),
        )

    def real(self) -> Tensor:
        """1 for a frame of a clip, 0 for one beyond its end, float32 [B, T, 1]."""
        return _first(self.lengths, self.noise.shape[1], self.noise.device).float()

    def pin(self, x: Tensor, step: int) -> Tensor:
        """Put the pinned frames of [B, T, 80] where they are before this step."""
        if self.pinned is None:
            return x
        is_pinned, places = self.pinned
        return torch.where(is_pinned, places[step], x)

    def outputs(self, x: Tensor, path: Tensor) -> list[FlowOutput]:
        """Each clip's part of x, [B, T, 80], and of x before each step, [steps, B, T, 80]."""
        return [
            FlowOutput(x[row, :frames], path[:, row, :frames])
            for row, frames in enumerate(self.lengths)
        ]


def time_grid(steps: int) -> tuple[Tensor, list[float]]:
    """When the velocity is asked for, float32 [steps] on the CPU, and how far it is followed.

    Steps are short at first: they grow as 1 - cos.
    """
    ends = 1 - torch.cos(torch.linspace(0, 1, steps + 1) * (0.5 * math.pi))
    now, times, strides = ends[0], [], []
    for end in ends[1:]:
        # The sum of the strides, not the grid itself: their rounding differs.
        times.append(now)
        strides.append(float(end - now))
        now = now + strides[-1]
    return torch.stack(times), strides


def _frame_tokens(clips: Sequence[FlowInput], frames: int) -> Tensor:
    counts = [(len(clip.tokens), len(clip.noise)) for clip in clips]
    assert all(own <= FRAMES_PER_TOKEN * tokens for tokens, own in counts), counts
    places = _stacked((tokens_of_frames(*count) for count in counts), frames)
    tokens = _stacked((clip.tokens for clip in clips), max(tokens for tokens, _ in counts))
    return tokens.gather(1, places.to(tokens.device, non_blocking=True))


def _places(clip: FlowInput) -> Tensor:
    if clip.places is None:
        return torch.arange(len(clip.noise), device=clip.noise.device)
    return clip.places


def condition_of(clip: FlowInput) -> Tensor:
    """What of the prompt's mel stands at the clip's start, float32 [<= T, 80]."""
    return clip.condition[max(0, len(clip.condition) - len(clip.noise)) :]


def _limits(clips: Sequence[FlowInput], frames: int) -> Tensor | None:
    if all(len(clip.noise) == frames and clip.limits is None for clip in clips):
        return None
    # A frame beyond the end sees one: attention to nothing is not a number.
    return _stacked(map(_own_limits, clips), frames, fill=1)


def _own_limits(clip: FlowInput) -> Tensor:
    frames = len(clip.noise)
    if clip.limits is None:
        return torch.full((frames,), frames, device=clip.noise.device)
    return clip.limits.clamp(max=frames)


def _visible(batch: Batch) -> Tensor | None:
    if batch.limits is None:
        return None
    frames = torch.arange(batch.limits.shape[1], device=batch.limits.device)
    return _twice(frames < batch.limits[..., None])[:, None]


def _pinned(clips: Sequence[FlowInput], steps: int, frames: int) -> tuple[Tensor, Tensor] | None:
    nothing = clips[0].noise.new_zeros(steps, 0, clips[0].noise.shape[1])
    paths = [nothing if clip.pinned is None else clip.pinned for clip in clips]
    assert all(len(path) == steps for path in paths), "pinned for another number of steps"
    counts = [path.shape[1] for path in paths]
    if not any(counts):
        return None
    places = _stacked((path[:, :frames].transpose(0, 1) for path in paths), frames)
    return _first(counts, frames, nothing.device), places.movedim(2, 0)


def _first(counts: list[int], frames: int, device: torch.device) -> Tensor:
    """True for so many frames of each clip, bool [B, T, 1]."""
    return (torch.arange(frames) < torch.tensor(counts)[:, None])[..., None].to(
        device, non_blocking=True
    )


def _stacked(rows: Iterable[Tensor], length: int, fill: int = 0) -> Tensor:
    """[n, ...] each -> [B, length, ...], filled up at the end."""
    return torch.stack([_lengthened(row, length, fill) for row in rows])


def _lengthened(row: Tensor, length: int, fill: int) -> Tensor:
    behind = [0, 0] * (row.ndim - 1) + [0, length - len(row)]
    return functional.pad(row, behind, value=fill)


def _twice(clips: Tensor) -> Tensor:
    return torch.cat((clips, clips))


def with_and_without(clips: Tensor) -> Tensor:
    """[B, ...] -> [2 B, ...]: then zeros, for the pass that is to know nothing of them."""
    return torch.cat((clips, torch.zeros_like(clips)))
