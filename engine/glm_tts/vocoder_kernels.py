"""HiFT's network as Triton kernels, for windows of different lengths in one batch.

An activation that a convolution reads is kept in half precision, and for float32 also what that
has rounded away: the two have 22 bits together, and three products on the tensor cores stand for
one. Every value is summed in an order of its own, wherever it lies in its window, whatever else is
in the batch and however far the window is filled up: so what is streamed is the whole clip's, bit
by bit. Channels are the last axis. Beyond a window's end a convolution reads zeros.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _store_halves(to, at, value, plane, mask, IS_DOUBLE: tl.constexpr):
    high = value.to(tl.float16)
    tl.store(to + at, high, mask=mask)
    if IS_DOUBLE:
        tl.store(to + plane + at, (value - high.to(tl.float32)).to(tl.float16), mask=mask)


# Sizes as plain numbers: a kernel for each dilation and width would take a minute to compile.
@triton.jit(
    do_not_specialize=[
        "taps", "stride", "dilation", "padding", "rate", "more", "rows_in", "rows_out", "shift"
    ]
)  # fmt: skip
def convolve(
    x, w, bias, first, second, raw, y, alpha, frames,
    taps, stride, dilation, padding, rate, more, rows_in, rows_out, shift,
    INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, IS_DOUBLE: tl.constexpr,
    ADDENDS: tl.constexpr, KEEPS: tl.constexpr, SNAKES: tl.constexpr, SLOPE: tl.constexpr,
    SCALE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """A convolution, what is added to it, and the activations of those that read it.

    x          float16 [1 or 2, B, rows_in, INPUTS]; a window has frames * rate + more of the rows
    w          float16 [1 or 2, taps, OUTPUTS, INPUTS]
    first      float32 [B, rows_out, OUTPUTS], added if ADDENDS > 0
    second     float32 [B, rows_out - shift, OUTPUTS], added if ADDENDS > 1; mirrored in front
    raw        float32 [B, rows_out, OUTPUTS], written if KEEPS
    y          float16 [SNAKES, 1 or 2, B, rows_out, OUTPUTS]; one leaky ReLU if SNAKES is 0
    alpha      float32 [SNAKES, 2, OUTPUTS]: each with its inverse
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    clip = tl.program_id(2).to(tl.int64)
    inside = tl.load(frames + clip).to(tl.int32) * rate + more
    if tl.program_id(0) * ROWS > (inside + 2 * padding - dilation * (taps - 1) - 1) // stride:
        # Beyond the window's last row: nobody reads it.
        return
    depths = tl.arange(0, DEPTH)
    chunks: tl.constexpr = INPUTS // DEPTH
    # Products with a width, that the compiler may know addresses to be aligned.
    clips = tl.num_programs(2).to(tl.int64)
    x_plane = clips * rows_in * INPUTS
    w_plane = taps * OUTPUTS * INPUTS
    y_plane = clips * rows_out * OUTPUTS
    x += clip * rows_in * INPUTS
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for step in range(taps * chunks):
        tap = step // chunks
        depth = (step % chunks) * DEPTH + depths
        seen = rows * stride + tap * dilation - padding
        is_inside = ((seen >= 0) & (seen < inside))[:, None]
        x_at = seen[:, None] * INPUTS + depth[None, :]
        # Inputs next to each other in memory, as the tensor cores want both sides.
        w_at = (tap * OUTPUTS + columns[None, :]) * INPUTS + depth[:, None]
        x_high = tl.load(x + x_at, mask=is_inside, other=0.0)
        w_high = tl.load(w + w_at)
        total = tl.dot(x_high, w_high, total)
        if IS_DOUBLE:
            total = tl.dot(tl.load(x + x_plane + x_at, mask=is_inside, other=0.0), w_high, total)
            total = tl.dot(x_high, tl.load(w + w_plane + w_at), total)
    total += tl.load(bias + columns)[None, :]
    is_row = (rows < rows_out)[:, None]
    at = (clip * rows_out + rows[:, None]) * OUTPUTS + columns[None, :]
    if ADDENDS > 0:
        total += tl.load(first + at, mask=is_row, other=0.0)
    if ADDENDS > 1:
        mirrored = clip * (rows_out - shift) + tl.abs(rows - shift)[:, None]
        total += tl.load(second + mirrored * OUTPUTS + columns[None, :], mask=is_row, other=0.0)
    if KEEPS:
        tl.store(raw + at, total, mask=is_row)
    for index in tl.static_range(SNAKES):
        factor = tl.load(alpha + 2 * index * OUTPUTS + columns)[None, :]
        inverse = tl.load(alpha + (2 * index + 1) * OUTPUTS + columns)[None, :]
        wave = tl.sin(factor * total)
        shaped = total + wave * wave * inverse
        to = y + index * (y_plane * (2 if IS_DOUBLE else 1))
        _store_halves(to, at, shaped, y_plane, is_row, IS_DOUBLE)
    if SLOPE != 0.0:
        shaped = total * SCALE
        shaped = tl.where(shaped > 0, shaped, shaped * SLOPE)
        _store_halves(y, at, shaped, y_plane, is_row, IS_DOUBLE)


@triton.jit
def _sine(cycles):
    return tl.sin(6.283185307179586 * (cycles - tl.floor(cycles)).to(tl.float32))


@triton.jit(do_not_specialize=["width"])
def mix_source(
    f0, cycles, hiss, weight, bias, frames, out, width,
    HOP: tl.constexpr, HARMONICS: tl.constexpr, LOUDNESS: tl.constexpr, VOICED_HZ: tl.constexpr,
    VOICED_NOISE: tl.constexpr, UNVOICED_NOISE: tl.constexpr, SAMPLES: tl.constexpr,
):  # fmt: skip
    """The source of `HarmonicSource`, sample by sample.

    f0         float32 [B, width]
    cycles     float64 [B, HARMONICS, width + 1], the first column before the window
    hiss       float32 [B, HOP * width]
    out        float32 [B, HOP * width]
    """
    samples = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    clip = tl.program_id(1).to(tl.int64)
    is_sample = samples < HOP * width
    last = tl.load(frames + clip).to(tl.int32) - 1
    place = tl.maximum((samples.to(tl.float64) + 0.5) / HOP - 0.5, 0.0)
    before = tl.minimum(place.to(tl.int32), last)
    after = tl.minimum(before + 1, last)
    share = place - before
    mixed = tl.zeros([SAMPLES], tl.float32)
    for harmonic in tl.static_range(HARMONICS):
        row = cycles + (clip * HARMONICS + harmonic) * (width + 1) + 1
        start = tl.load(row + before, mask=is_sample, other=0.0)
        end = tl.load(row + after, mask=is_sample, other=0.0)
        mixed += tl.load(weight + harmonic) * _sine(start * (1 - share) + end * share)
    is_voiced = tl.load(f0 + clip * width + samples // HOP, mask=is_sample, other=0.0) > VOICED_HZ
    mixed = tl.where(is_voiced, LOUDNESS * mixed, 0.0)
    at = clip * HOP * width + samples
    noise = tl.load(hiss + at, mask=is_sample, other=0.0)
    mixed += tl.where(is_voiced, VOICED_NOISE, UNVOICED_NOISE) * noise + tl.load(bias)
    decay = tl.exp(-2.0 * tl.abs(mixed))
    tanh = (1 - decay) / (1 + decay)
    tl.store(out + at, tl.where(mixed < 0, -tanh, tanh), mask=is_sample)


@triton.jit(do_not_specialize=["width"])
def analyse(
    audio, waves, frames, out, width,
    HOP: tl.constexpr, WINDOW: tl.constexpr, STRIDE: tl.constexpr, IS_DOUBLE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Short spectra of an audio that is mirrored at its ends.

    audio      float32 [B, HOP * width]
    waves      float32 [WINDOW, COLUMNS]
    out        float16 [1 or 2, B, HOP * width / STRIDE + 1, COLUMNS]
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    clip = tl.program_id(1).to(tl.int64)
    samples = tl.load(frames + clip).to(tl.int32) * HOP
    count = HOP * width // STRIDE + 1
    plane = tl.num_programs(1).to(tl.int64) * count * COLUMNS
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for tap in tl.static_range(WINDOW):
        seen = tl.abs(rows * STRIDE + tap - WINDOW // 2)
        seen = tl.where(seen < samples, seen, 2 * samples - 2 - seen)
        value = tl.load(audio + clip * HOP * width + seen, mask=seen >= 0, other=0.0)
        total += value[:, None] * tl.load(waves + tap * COLUMNS + columns)[None, :]
    at = (clip * count + rows[:, None]) * COLUMNS + columns[None, :]
    _store_halves(out, at, total, plane, (rows < count)[:, None], IS_DOUBLE)


@triton.jit(do_not_specialize=["width"])
def synthesize(
    spectrum, waves, overlap, frames, audio, width,
    HOP: tl.constexpr, WINDOW: tl.constexpr, STRIDE: tl.constexpr, BINS: tl.constexpr,
    LOUDEST: tl.constexpr, CEILING: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The audio whose short spectra have these logarithms of magnitude, and sines of phase.

    spectrum   float32 [B, HOP * width / STRIDE + 1, COLUMNS]: BINS of each, then nothing
    waves      float32 [2 BINS, WINDOW]
    overlap    float32 [WINDOW]
    audio      float32 [B, HOP * width]
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    outs = tl.arange(0, STRIDE)
    clip = tl.program_id(1).to(tl.int64)
    reach: tl.constexpr = WINDOW // STRIDE
    per_frame: tl.constexpr = HOP // STRIDE
    count = tl.load(frames + clip).to(tl.int32) * per_frame + 1
    spectrum += clip * (per_frame * width + 1) * COLUMNS
    total = tl.zeros([ROWS, STRIDE], tl.float32)
    weight = tl.zeros([ROWS, STRIDE], tl.float32)
    for back in tl.static_range(reach):
        column = rows + reach // 2 - back
        is_there = (column >= 0) & (column < count)
        at = outs + STRIDE * back
        weight += tl.where(is_there[:, None], tl.load(overlap + at)[None, :], 0.0)
        for index in tl.static_range(BINS):
            logarithm = tl.load(spectrum + column * COLUMNS + index, mask=is_there, other=0.0)
            phase = tl.load(spectrum + column * COLUMNS + BINS + index, mask=is_there, other=0.0)
            magnitude = tl.where(is_there, tl.minimum(tl.exp(logarithm), LOUDEST), 0.0)
            phase = tl.sin(phase)
            real = (magnitude * tl.cos(phase))[:, None]
            imaginary = (magnitude * tl.sin(phase))[:, None]
            total += real * tl.load(waves + index * WINDOW + at)[None, :]
            total += imaginary * tl.load(waves + (BINS + index) * WINDOW + at)[None, :]
    is_row = rows < per_frame * width
    # Beyond the window's end nothing overlaps.
    value = total / tl.where(weight > 0, weight, 1.0)
    value = tl.minimum(tl.maximum(value, -CEILING), CEILING)
    to = audio + clip * HOP * width + rows[:, None] * STRIDE + outs[None, :]
    tl.store(to, value, mask=is_row[:, None])
