"""The language model's kernels for bfloat16 on CUDA, in Triton: weights are read once a step.

Every row is summed up in an order of its own, whatever else is in the batch and whatever the tile:
products in steps along K, attention in splits of fixed size, squares as integers. So a job's
numbers are the same bits alone and in a batch. That needs the tensor core instruction of 16 rows
throughout (tiles of 64 rows and four warps would get another one).

Between the kernels, for B rows and hidden width N:
    x        float32 [B, N], the residual
    half     the weights' dtype [B, N], a copy of x to multiply with
    squares  int64 [2 layers + 1, B], the sum of x * x at each norm, times SQUARES_UNIT
A norm's weight is part of the matrix behind it.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

SQUARES_UNIT = tl.constexpr(float(2**28))
"""Room for an x of 5000 in all of 1000 columns, and for the squares of 0.001."""


@triton.jit
def begin(PDL: tl.constexpr):
    """Let the next kernel be set up already, and wait for what the last one wrote."""
    if PDL:
        gdc_launch_dependents()
        gdc_wait()


@triton.jit
def _fetch(w, lines, K, PREFETCH: tl.constexpr):
    """Ask for the first PREFETCH values of lines of w; 64 of them are what memory gives at once."""
    ks = tl.arange(0, PREFETCH // 64) * 64
    pointers = (w + lines[:, None].to(tl.int64) * K + ks[None, :]).to(tl.int64)
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [pointers], tl.int32, False, 1
    )


@triton.jit
def _scale(squares, rows, is_row, K, eps):
    """1 / rms of each row."""
    total = tl.load(squares + rows, mask=is_row, other=1).to(tl.float32)
    return tl.rsqrt(total / (K * SQUARES_UNIT) + eps)


@triton.jit
def _squares(x):
    return tl.sum((x * x * SQUARES_UNIT).to(tl.int64), 1)


@triton.jit
def embed(
    table, column_ids, history, slots, x, half, squares,
    WINDOW: tl.constexpr, N: tl.constexpr, SITES: tl.constexpr, STRIDE: tl.constexpr,
    BLOCK: tl.constexpr, SITE_BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Begin a row with its slot's last token, and the squares of its norms with 0."""
    begin(PDL)
    row = tl.program_id(0)
    # A slot that holds no job has no token: -1.
    token = tl.maximum(tl.load(history + tl.load(slots + row) * WINDOW), 0)
    columns = tl.arange(0, BLOCK)
    is_column = columns < N
    vector = tl.load(table + tl.load(column_ids + token) * N + columns, mask=is_column, other=0.0)
    tl.store(half + row * N + columns, vector, mask=is_column)
    vector = vector.to(tl.float32)
    tl.store(x + row * N + columns, vector, mask=is_column)
    first = tl.sum((vector * vector * SQUARES_UNIT).to(tl.int64), 0)
    sites = tl.arange(0, SITE_BLOCK)
    tl.store(squares + sites * STRIDE + row, tl.where(sites == 0, first, 0), mask=sites < SITES)


@triton.jit(do_not_specialize=["M"])
def norm_linear(
    half, squares, w, y, M, N, K, eps,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
    PREFETCH: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """y[M, N] = rms_norm(x[M, K]) @ w[N, K].T."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    if PREFETCH:
        _fetch(w, columns, K, PREFETCH)
    begin(PDL)
    is_row = rows < M
    ks = tl.arange(0, DEPTH)
    a = half + rows[:, None] * K + ks[None, :]
    b = w + columns[None, :].to(tl.int64) * K + ks[:, None]
    acc = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, K, DEPTH):
        acc = tl.dot(tl.load(a + start, mask=is_row[:, None], other=0.0), tl.load(b + start), acc)
    acc *= _scale(squares, rows, is_row, K, eps)[:, None]
    where = y + rows[:, None] * N + columns[None, :]
    tl.store(where, acc.to(y.dtype.element_ty), mask=is_row[:, None])


@triton.jit(do_not_specialize=["M"])
def norm_swiglu(
    half, squares, w, y, M, N, K, eps,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
    PREFETCH: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """y[M, N] = silu(gate) * up, where rms_norm(x[M, K]) @ w[2 N, K].T is gate and up abreast."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    # Each gate beside its up: one product, which is cut in two where it lies.
    pairs = tl.arange(0, 2 * COLUMNS)
    lines = tl.program_id(1) * COLUMNS + pairs // 2 + pairs % 2 * N
    if PREFETCH:
        _fetch(w, lines, K, PREFETCH)
    begin(PDL)
    is_row = rows < M
    ks = tl.arange(0, DEPTH)
    a = half + rows[:, None] * K + ks[None, :]
    b = w + lines[None, :].to(tl.int64) * K + ks[:, None]
    acc = tl.zeros([ROWS, 2 * COLUMNS], tl.float32)
    for start in range(0, K, DEPTH):
        acc = tl.dot(tl.load(a + start, mask=is_row[:, None], other=0.0), tl.load(b + start), acc)
    acc *= _scale(squares, rows, is_row, K, eps)[:, None]
    gate, up = tl.split(tl.reshape(acc, [ROWS, COLUMNS, 2]))
    where = y + rows[:, None] * N + columns[None, :]
    product = gate * tl.sigmoid(gate) * up
    tl.store(where, product.to(y.dtype.element_ty), mask=is_row[:, None])


@triton.jit(do_not_specialize=["M"])
def linear_add(
    inputs, w, x, half, squares, M, N, K,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
    PREFETCH: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """x[M, N] += inputs[M, K] @ w[N, K].T; squares are those of the norm that follows."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    if PREFETCH:
        _fetch(w, columns, K, PREFETCH)
    begin(PDL)
    is_row = rows < M
    ks = tl.arange(0, DEPTH)
    a = inputs + rows[:, None] * K + ks[None, :]
    b = w + columns[None, :].to(tl.int64) * K + ks[:, None]
    acc = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, K, DEPTH):
        acc = tl.dot(tl.load(a + start, mask=is_row[:, None], other=0.0), tl.load(b + start), acc)
    where = rows[:, None] * N + columns[None, :]
    acc += tl.load(x + where, mask=is_row[:, None], other=0.0)
    tl.store(x + where, acc, mask=is_row[:, None])
    tl.store(half + where, acc.to(half.dtype.element_ty), mask=is_row[:, None])
    # Integers, as they add up to the same in any order.
    tl.atomic_add(squares + rows, _squares(acc), mask=is_row, sem="relaxed")
