"""HiFT on CUDA: the same as `hift` and `source`, in a hundred kernels of `vocoder_kernels`."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import triton
from torch import Tensor

from engine.glm_tts import vocoder_kernels as kernels
from engine.glm_tts.hift import (
    BINS,
    BRANCHES,
    CEILING,
    DILATIONS,
    LAST_SLOPE,
    LOUDEST,
    SLOPE,
    SOURCE_STRIDES,
    STRIDE,
    UPSAMPLING,
    WINDOW,
    ShortSpectrum,
)
from engine.glm_tts.source import (
    HARMONICS,
    HOP,
    LOUDNESS,
    UNVOICED_NOISE,
    VOICED_HZ,
    VOICED_NOISE,
    HarmonicSource,
)
from engine.glm_tts.tensors import Weights

_COLUMNS = 32
"""Of the spectra's 18: the tensor cores take no fewer."""


class Tiles(NamedTuple):
    """How a convolution is cut."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


TILES = {
    256: Tiles(64, 64, 64, 4, 3),
    128: Tiles(128, 128, 64, 8, 3),
    64: Tiles(64, 64, 64, 4, 2),
}
"""By trial. By the channels that come out; for others the last that is not wider."""


class _Conv(NamedTuple):
    """A convolution as the kernel wants it."""

    weight: Tensor
    """float16 [1 or 2, taps, out, in]: rounded, and what that has taken away."""
    bias: Tensor
    """float32 [out]."""
    padding: int
    stride: int = 1


class _Seen(NamedTuple):
    """What a convolution reads: float16 [1 or 2, B, rows, channels]."""

    halves: Tensor
    rate: int
    """Rows of a mel frame."""
    more: int = 0
    """Rows beyond those of the window's frames."""


class _Step(NamedTuple):
    """Two convolutions of a residual block, and what reads them."""

    wide: _Conv
    between: Tensor
    narrow: _Conv
    dilation: int


class _Residual(NamedTuple):
    steps: list[_Step]
    before: list[Tensor]
    """The activation in front of each step, float32 [1, 2, C]."""


class _Stage(NamedTuple):
    up: _Conv
    source_down: _Conv
    source: _Residual
    branches: list[_Residual]
    before_branches: Tensor
    """float32 [3, 2, C]."""


class FusedHift:
    """Source and network for windows of different lengths in one batch.

    Args:
        weights: By the checkpoint's names, weight norm folded, on one CUDA device.
        precision: Of what the convolutions multiply; their sums and the sound are float32.
    """

    def __init__(self, weights: Weights, precision: Literal["float32", "float16"]) -> None:
        self._is_double = precision == "float32"
        self._mixer = HarmonicSource(weights)
        self._first = self._conv(weights, "conv_pre")
        self._stages = [self._stage(weights, index) for index in range(len(UPSAMPLING))]
        self._last = self._conv(weights, "conv_post")
        spectrum = ShortSpectrum(self._first.bias.device)
        analysis = spectrum.analysis[:, 0].mT
        self._analysis = torch.nn.functional.pad(analysis, (0, _COLUMNS - 2 * BINS)).contiguous()
        self._synthesis = spectrum.synthesis[:, 0].contiguous()
        self._overlap = spectrum.overlap.flatten()

    def __call__(self, mels: Tensor, source: Tensor, frames: Tensor | None = None) -> Tensor:
        """Audio, float32 [B, 480 T].

        Args:
            mels: float32 [B, 80, T].
            source: float32 [B, 480 T].
            frames: How many of a window's frames are there, at least 1, int64 [B]; None: all.
        """
        if frames is None:
            count = mels.shape[2]
            frames = torch.full((len(mels),), count, device=mels.device)
        spectrum = self._analyse(source, frames)
        rows = self._halves(mels.mT).contiguous()
        _, y = self._convolve(_Seen(rows, 1), self._first, frames, slope=SLOPE)
        seen = _Seen(y, 1)
        for index, stage in enumerate(self._stages):
            seen = self._through(stage, index, seen, spectrum, frames)
        logs, _ = self._convolve(seen, self._last, frames, keeps=True)
        return self._synthesize(logs, frames)

    def mix(self, f0: Tensor, cycles: Tensor, hiss: Tensor, frames: Tensor) -> Tensor:
        """The source, float32 [B, 480 T]; see `HarmonicSource.add`.

        Args:
            f0: Hz, float32 [B, T].
            cycles: As HarmonicSource.cycles gives them, float64 [B, 9, T + 1].
            hiss: float32 [B, 480 T].
            frames: As above.
        """
        clips, width = f0.shape
        out = torch.empty_like(hiss)
        samples = 512
        kernels.mix_source[triton.cdiv(HOP * width, samples), clips](
            f0, cycles.contiguous(), hiss, self._mixer.weight, self._mixer.bias, frames, out,
            width, HOP=HOP, HARMONICS=HARMONICS, LOUDNESS=LOUDNESS, VOICED_HZ=VOICED_HZ,
            VOICED_NOISE=VOICED_NOISE, UNVOICED_NOISE=UNVOICED_NOISE, SAMPLES=samples,
        )  # fmt: skip
        return out

    def _through(
        self, stage: _Stage, index: int, seen: _Seen, spectrum: _Seen, frames: Tensor
    ) -> _Seen:
        """One step of the upsampling; what the next convolution reads."""
        is_last = index == len(self._stages) - 1
        rate, more = seen.rate * UPSAMPLING[index], int(is_last)
        up, _ = self._convolve(seen, stage.up, frames, keeps=True)
        clips, channels = len(frames), stage.source_down.weight.shape[2]
        x = up.view(clips, -1, channels)
        raw, y = self._convolve(
            spectrum, stage.source_down, frames, snakes=stage.source.before[0], keeps=True
        )
        # A spectrum of N strides has N + 1 columns: the network's input is mirrored by one.
        x, y = self._residual(
            stage.source, raw, _Seen(y, rate, more), frames, x, shift=more,
            snakes=stage.before_branches,
        )  # fmt: skip
        planes = len(y) // BRANCHES
        total: Tensor | None = None
        for at, branch in enumerate(stage.branches):
            begin = _Seen(y[planes * at : planes * (at + 1)], rate, more)
            slope = 0.0
            if at == BRANCHES - 1:
                slope = LAST_SLOPE if is_last else SLOPE
            total, last = self._residual(branch, x, begin, frames, total, slope=slope)
        return _Seen(last, rate, more)

    def _residual(
        self, block: _Residual, x: Tensor, seen: _Seen, frames: Tensor, added: Tensor | None,
        shift: int = 0, snakes: Tensor | None = None, slope: float = 0.0,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """x through a block, plus `added`; and the activations that follow.

        Args:
            block: Whose first activation has made `seen` of x.
        """
        for index, step in enumerate(block.steps):
            _, y = self._convolve(seen, step.wide, frames, step.dilation, snakes=step.between)
            inner = seen._replace(halves=y)
            if index == len(block.steps) - 1:
                addends = (x,) if added is None else (x, added)
                return self._convolve(
                    inner, step.narrow, frames, addends=addends, shift=shift, snakes=snakes,
                    slope=slope, scale=1 / BRANCHES, keeps=not slope,
                )  # fmt: skip
            x, y = self._convolve(
                inner, step.narrow, frames, addends=(x,), snakes=block.before[index + 1], keeps=True
            )
            seen = seen._replace(halves=y)
        raise AssertionError("a residual block has steps")

    def _convolve(
        self, seen: _Seen, conv: _Conv, frames: Tensor, dilation: int = 1, *,
        addends: tuple[Tensor, ...] = (), shift: int = 0, snakes: Tensor | None = None,
        slope: float = 0.0, scale: float = 1.0, keeps: bool = False,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The sum, float32 [B, rows, out], and its activations, float16; only what is wanted."""
        planes, clips, rows_in, inputs = seen.halves.shape
        _, taps, outputs, _ = conv.weight.shape
        reach = dilation * conv.padding
        rows = (rows_in + 2 * reach - dilation * (taps - 1) - 1) // conv.stride + 1
        device = seen.halves.device
        acts = 0 if snakes is None else len(snakes)
        shape = (max(acts, int(slope > 0)) * planes, clips, rows, outputs)
        y = torch.empty(shape, dtype=torch.float16, device=device)
        raw = torch.empty(shape[1:] if keeps else (0,), device=device)
        tiles = _tiles(outputs, inputs)
        grid = (triton.cdiv(rows, tiles.rows), outputs // tiles.columns, clips)
        kernels.convolve[grid](
            seen.halves, conv.weight, conv.bias, *(*addends, conv.bias, conv.bias)[:2], raw, y,
            conv.bias if snakes is None else snakes, frames,
            taps, conv.stride, dilation, reach, seen.rate, seen.more, rows_in, rows, shift,
            INPUTS=inputs, OUTPUTS=outputs, IS_DOUBLE=self._is_double, ADDENDS=len(addends),
            KEEPS=keeps, SNAKES=acts, SLOPE=slope, SCALE=scale,
            ROWS=tiles.rows, COLUMNS=tiles.columns, DEPTH=tiles.depth,
            num_warps=tiles.warps, num_stages=tiles.stages,
        )  # fmt: skip
        return raw, y

    def _analyse(self, audio: Tensor, frames: Tensor) -> _Seen:
        clips, samples = audio.shape
        shape = (self._planes, clips, samples // STRIDE + 1, _COLUMNS)
        out = torch.empty(shape, dtype=torch.float16, device=audio.device)
        rows = 64
        kernels.analyse[triton.cdiv(shape[2], rows), clips](
            audio, self._analysis, frames, out, samples // HOP,
            HOP=HOP, WINDOW=WINDOW, STRIDE=STRIDE, IS_DOUBLE=self._is_double,
            ROWS=rows, COLUMNS=_COLUMNS,
        )  # fmt: skip
        return _Seen(out, HOP // STRIDE, 1)

    def _synthesize(self, logs: Tensor, frames: Tensor) -> Tensor:
        clips, rows, _ = logs.shape
        audio = torch.empty(clips, STRIDE * (rows - 1), device=logs.device)
        tile = 128
        kernels.synthesize[triton.cdiv(rows - 1, tile), clips](
            logs, self._synthesis, self._overlap, frames, audio, audio.shape[1] // HOP,
            HOP=HOP, WINDOW=WINDOW, STRIDE=STRIDE, BINS=BINS, LOUDEST=LOUDEST, CEILING=CEILING,
            COLUMNS=_COLUMNS, ROWS=tile,
        )  # fmt: skip
        return audio

    @property
    def _planes(self) -> int:
        return 1 + self._is_double

    def _halves(self, x: Tensor) -> Tensor:
        """float32 [...] -> float16 [1 or 2, ...]."""
        high = x.half()
        return torch.stack((high, (x - high.float()).half())) if self._is_double else high[None]

    def _conv(self, weights: Weights, name: str, stride: int = 1) -> _Conv:
        weight, bias = weights[f"{name}.weight"].float(), weights[f"{name}.bias"].float()
        outputs, inputs, taps = weight.shape
        # Spectra of 18 stand in 32 columns.
        shape = tuple(_COLUMNS if size == 2 * BINS else size for size in (outputs, inputs))
        padded = weight.new_zeros(taps, *shape)
        padded[:, :outputs, :inputs] = weight.permute(2, 0, 1)
        bias = torch.nn.functional.pad(bias, (0, shape[0] - outputs))
        padding = taps // 2 if stride == 1 else stride // 2
        return _Conv(self._halves(padded).contiguous(), bias, padding, stride)

    def _up(self, weights: Weights, name: str, stride: int) -> _Conv:
        """A transposed convolution as one over three rows, whose outputs are `stride` rows."""
        weight, bias = weights[f"{name}.weight"].float(), weights[f"{name}.bias"].float()
        inputs, outputs, taps = weight.shape
        padding = (taps - stride) // 2
        by_tap = weight.new_zeros(3, stride, outputs, inputs)
        for tap in range(3):
            for row in range(stride):
                if 0 <= (at := row + padding - stride * (tap - 1)) < taps:
                    by_tap[tap, row] = weight[..., at].T
        return _Conv(self._halves(by_tap.flatten(1, 2)).contiguous(), bias.repeat(stride), 1)

    def _stage(self, weights: Weights, index: int) -> _Stage:
        branches = [
            self._block(weights, f"resblocks.{BRANCHES * index + branch}")
            for branch in range(BRANCHES)
        ]
        return _Stage(
            up=self._up(weights, f"ups.{index}", UPSAMPLING[index]),
            source_down=self._conv(weights, f"source_downs.{index}", SOURCE_STRIDES[index]),
            source=self._block(weights, f"source_resblocks.{index}"),
            branches=branches,
            before_branches=torch.cat([branch.before[0] for branch in branches]),
        )

    def _block(self, weights: Weights, name: str) -> _Residual:
        def snake(side: int, step: int) -> Tensor:
            alpha = weights[f"{name}.activations{side}.{step}.alpha"].float()
            return torch.stack((alpha, 1 / (alpha + 1e-9)))[None]

        steps = [
            _Step(
                self._conv(weights, f"{name}.convs1.{step}"),
                snake(2, step),
                self._conv(weights, f"{name}.convs2.{step}"),
                dilation,
            )
            for step, dilation in enumerate(DILATIONS)
        ]
        return _Residual(steps, [snake(1, step) for step in range(len(DILATIONS))])


def _tiles(outputs: int, inputs: int) -> Tiles:
    tiles = next((tiles for width, tiles in TILES.items() if outputs % width == 0), TILES[64])
    depth = next(depth for depth in (64, 32, 16) if inputs % depth == 0)
    # The largest power of two that divides the outputs.
    whole = outputs & -outputs
    return tiles._replace(columns=min(tiles.columns, whole), depth=min(depth, tiles.depth))
