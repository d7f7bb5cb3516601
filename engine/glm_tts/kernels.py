"""The language model's kernels for bfloat16 on CUDA, in Triton: weights are read once a step.

Every row is summed up in an order of its own, whatever else is in the batch and whatever the tile:
products in steps along K within each of a matrix's parts, the parts one after the other, attention
in splits of fixed size, squares as integers. So a job's numbers are the same bits alone and in a
batch. That needs the tensor core instruction of 16 rows throughout (tiles of 64 rows and four warps
would get another one).

A sum has several parts, as many as its matrix has for all batches, because one alone is a chain of
instructions that each wait for the last. They are worked on at once: each by a program of its own
(apart), which suits many rows, or by a warp of its own in one program (together), which suits few.

Between the kernels, for B rows and hidden width N:
    x         float32 [B, N], the residual
    half      bfloat16 [B, N], a copy of x to multiply with
    squares   int64 [2 layers + 1, B], the sum of x * x at each norm, times SQUARES_UNIT
    partials  float32 [PARTS, B, rows of w], the sums of parts that are apart
    arrived   int32, for each tile of a product: programs that have left their part; 0 in between
A norm's weight is part of the matrix behind it. A matrix of int8 has float32 scales, one a row.
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
    """Wait for what the kernel before wrote."""
    if PDL:
        gdc_wait()


@triton.jit
def finish(PDL: tl.constexpr):
    """Let the next kernel be set up already. Where the device has no room for it beside this one,
    not before this one is about to end."""
    if PDL:
        gdc_launch_dependents()


@triton.jit
def ask_for(w, LINES: tl.constexpr):
    """Have a matrix of so many lines of 128 bytes brought into the second level cache, by all
    programs together."""
    row, column, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    program = (part * tl.num_programs(1) + column) * tl.num_programs(0) + row
    programs = tl.num_programs(0) * tl.num_programs(1) * tl.num_programs(2)
    for start in range(program * 128, LINES, programs * 128):
        line = tl.minimum(start + tl.arange(0, 128), LINES - 1).to(tl.int64)
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.b32 $0, 0;", "=r,l", [w.to(tl.int64) + line * 128],
            dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip


@triton.jit
def _product_of_part(
    inputs, w, rows, is_row, lines, part, K: tl.constexpr,
    ROWS: tl.constexpr, LINES: tl.constexpr, DEPTH: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """inputs @ w[lines].T over one part of K, float32 [ROWS, LINES]."""
    ks = part * (K // PARTS) + tl.arange(0, DEPTH)
    a = inputs + rows[:, None] * K + ks[None, :]
    b = w + lines[None, :].to(tl.int64) * K + ks[:, None]
    acc = tl.zeros([ROWS, LINES], tl.float32)
    for start in range(0, K // PARTS, DEPTH):
        values = tl.load(a + start, mask=is_row[:, None], other=0.0)
        acc = tl.dot(values, tl.load(b + start).to(values.dtype), acc)
    return acc


@triton.jit
def _product_of_parts(
    inputs, w, rows, is_row, lines, K: tl.constexpr,
    ROWS: tl.constexpr, LINES: tl.constexpr, DEPTH: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """The same over all parts, each a chain of its own; PARTS is 2 or 4."""
    tl.static_assert(PARTS == 2 or PARTS == 4)
    parts, ks = tl.arange(0, PARTS) * (K // PARTS), tl.arange(0, DEPTH)
    a = inputs + parts[:, None, None] + rows[None, :, None] * K + ks[None, None, :]
    b = w + parts[:, None, None] + lines[None, None, :].to(tl.int64) * K + ks[None, :, None]
    acc = tl.zeros([PARTS, ROWS, LINES], tl.float32)
    for start in range(0, K // PARTS, DEPTH):
        values = tl.load(a + start, mask=is_row[None, :, None], other=0.0)
        acc = tl.dot(values, tl.load(b + start).to(values.dtype), acc)
    acc = tl.permute(acc, (1, 2, 0))
    if PARTS == 2:
        first, second = tl.split(acc)
        total = first + second
    else:
        even, odd = tl.split(tl.reshape(acc, [ROWS, LINES, 2, 2]))
        first, third = tl.split(even)
        second, fourth = tl.split(odd)
        total = first + second + third + fourth
    return total


@triton.jit
def _product(
    inputs, w, scales, partials, arrived, rows, lines, M,
    N: tl.constexpr, K: tl.constexpr,
    ROWS: tl.constexpr, LINES: tl.constexpr, DEPTH: tl.constexpr,
    PARTS: tl.constexpr, IS_APART: tl.constexpr, PDL: tl.constexpr,
    HAS_ROOM: tl.constexpr = False,
):  # fmt: skip
    """inputs[M, K] @ w[N, K].T for a tile, and which of its rows the caller is to write.

    Where parts are apart, the last program to arrive adds them up, in order: it alone has rows.
    HAS_ROOM says that the next kernel finds room beside this one.

    Returns:
        float32 [ROWS, LINES], bool [ROWS].
    """
    finish(PDL and HAS_ROOM)
    begin(PDL)
    is_row = rows < M
    if PARTS > 1 and not IS_APART:
        acc = _product_of_parts(inputs, w, rows, is_row, lines, K, ROWS, LINES, DEPTH, PARTS)
        finish(PDL and not HAS_ROOM)
    else:
        part = tl.program_id(2)
        acc = _product_of_part(inputs, w, rows, is_row, lines, part, K, ROWS, LINES, DEPTH, PARTS)
        finish(PDL and not HAS_ROOM)
        if PARTS > 1:
            place = partials + rows[:, None] * N + lines[None, :]
            tl.store(place + part * M * N, acc, mask=is_row[:, None])
            # All threads have written before one of them says so.
            tl.debug_barrier()
            counter = arrived + tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
            is_last = tl.atomic_add(counter, 1, sem="acq_rel") == PARTS - 1
            tl.store(counter, 0, mask=is_last)
            is_row = is_row & is_last
            acc = tl.load(place, mask=is_row[:, None], other=0.0, cache_modifier=".cg")
            for other in tl.static_range(1, PARTS):
                acc += tl.load(
                    place + other * M * N, mask=is_row[:, None], other=0.0, cache_modifier=".cg"
                )
    if scales is not None:
        acc *= tl.load(scales + lines)[None, :]
    return acc, is_row


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
    half, w, scales, squares, y, partials, arrived, M, eps,
    N: tl.constexpr, K: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
    PARTS: tl.constexpr, IS_APART: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """y[M, N] = rms_norm(x[M, K]) @ w[N, K].T."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    acc, is_row = _product(
        half, w, scales, partials, arrived, rows, columns, M, N, K,
        ROWS, COLUMNS, DEPTH, PARTS, IS_APART, PDL, HAS_ROOM=True,
    )  # fmt: skip
    acc *= _scale(squares, rows, is_row, K, eps)[:, None]
    where = y + rows[:, None] * N + columns[None, :]
    tl.store(where, acc.to(y.dtype.element_ty), mask=is_row[:, None])


@triton.jit(do_not_specialize=["M"])
def norm_swiglu(
    half, w, scales, squares, y, partials, arrived, M, eps,
    N: tl.constexpr, K: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
    PARTS: tl.constexpr, IS_APART: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """y[M, N] = silu(gate) * up, where rms_norm(x[M, K]) @ w[2 N, K].T is gate and up abreast."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    # Each gate beside its up: one product, which is cut in two where it lies.
    pairs = tl.arange(0, 2 * COLUMNS)
    lines = tl.program_id(1) * COLUMNS + pairs // 2 + pairs % 2 * N
    acc, is_row = _product(
        half, w, scales, partials, arrived, rows, lines, M, 2 * N, K,
        ROWS, 2 * COLUMNS, DEPTH, PARTS, IS_APART, PDL,
    )  # fmt: skip
    acc *= _scale(squares, rows, is_row, K, eps)[:, None]
    gate, up = tl.split(tl.reshape(acc, [ROWS, COLUMNS, 2]))
    where = y + rows[:, None] * N + columns[None, :]
    product = gate * tl.sigmoid(gate) * up
    tl.store(where, product.to(y.dtype.element_ty), mask=is_row[:, None])


@triton.jit(do_not_specialize=["M"])
def linear_add(
    inputs, w, scales, x, half, squares, partials, arrived, M,
    N: tl.constexpr, K: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
    PARTS: tl.constexpr, IS_APART: tl.constexpr, ASKS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """x[M, N] += inputs[M, K] @ w[N, K].T; squares are those of the norm that follows.

    ASKS says that there is time to fetch weights before the inputs are there.
    """
    if ASKS:
        ask_for(w, N * K * w.dtype.element_ty.primitive_bitwidth // 1024)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    acc, is_row = _product(
        inputs, w, scales, partials, arrived, rows, columns, M, N, K,
        ROWS, COLUMNS, DEPTH, PARTS, IS_APART, PDL,
    )  # fmt: skip
    where = rows[:, None] * N + columns[None, :]
    acc += tl.load(x + where, mask=is_row[:, None], other=0.0)
    tl.store(x + where, acc, mask=is_row[:, None])
    tl.store(half + where, acc.to(half.dtype.element_ty), mask=is_row[:, None])
    # Integers, as they add up to the same in any order.
    tl.atomic_add(squares + rows, _squares(acc), mask=is_row, sem="relaxed")
