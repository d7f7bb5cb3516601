"""Reading prompts on CUDA, in Triton: the rows of all prompts of a pass, one behind the other.

As in `kernels`, a row is summed up in an order of its own: products in steps along K, attention
in blocks of keys that begin at position 0, squares as integers. So a prompt's numbers are the same
bits alone, packed with others, and cut in two by a pass's end. Tiles have 64 rows a warpgroup, so
that all of them get the tensor core instruction of 64 rows; the decode's kernels have another.

Between the kernels, for R rows and hidden width N:
    x        float32 [R, N], the residual
    half     the weights' dtype [R, N], a copy of x to multiply with
    squares  int64 [2 layers + 1, R], the sum of x * x at each norm, times SQUARES_UNIT
    slots, positions  int32 [R]: where a row's key and value are kept
    count    int32 [1]: rows that are read; programs beyond them have nothing to do
A norm's weight is part of the matrix behind it. A matrix that was quantised comes as its integers,
in the weights' dtype, and float32 scales, one a row; others have None. R is a whole number of
tiles: the rows that fill up the last one belong to the spare slot.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803, N806

from __future__ import annotations

import triton
import triton.language as tl

from engine.glm_tts.kernels import SQUARES_UNIT


@triton.jit
def _product(
    inputs, w, scales, rows, lines, K,
    ROWS: tl.constexpr, LINES: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """inputs[rows] @ w[lines].T, float32 [ROWS, LINES]."""
    ks = tl.arange(0, DEPTH)
    a = inputs + rows[:, None] * K + ks[None, :]
    b = w + lines[None, :] * K + ks[:, None]
    acc = tl.zeros([ROWS, LINES], tl.float32)
    for start in range(0, K, DEPTH):
        acc = tl.dot(tl.load(a + start), tl.load(b + start), acc)
    if scales is not None:
        acc *= tl.load(scales + lines)[None, :]
    return acc


@triton.jit
def _scale(squares, rows, K, eps):
    """1 / rms of each row."""
    return tl.rsqrt(tl.load(squares + rows).to(tl.float32) / (K * SQUARES_UNIT) + eps)


@triton.jit
def embed(
    table, ids, x, half, squares,
    N: tl.constexpr, SITES: tl.constexpr, STRIDE: tl.constexpr,
    BLOCK: tl.constexpr, SITE_BLOCK: tl.constexpr,
):  # fmt: skip
    """Begin a row with its id's vector, and the squares of its norms with 0."""
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    is_column = columns < N
    line = tl.load(ids + row).to(tl.int64) * N
    vector = tl.load(table + line + columns, mask=is_column, other=0.0)
    tl.store(half + row * N + columns, vector, mask=is_column)
    vector = vector.to(tl.float32)
    tl.store(x + row * N + columns, vector, mask=is_column)
    first = tl.sum((vector * vector * SQUARES_UNIT).to(tl.int64), 0)
    sites = tl.arange(0, SITE_BLOCK)
    tl.store(squares + sites * STRIDE + row, tl.where(sites == 0, first, 0), mask=sites < SITES)


@triton.jit(do_not_specialize=["layer"])
def norm_qkv(
    half, squares, w, scales, cos, sin, cache, places, rooms, slots, positions, count, q,
    layer, K, eps,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, UNIT: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """q[R, HEADS D] = rms_norm(x[R, K]) @ w[., K].T after rope; keys and values go to the cache.

    A slot's memory is as in `attention_kernels`.
    """
    if tl.program_id(0) * ROWS >= tl.load(count):
        return
    H: tl.constexpr = D // 2
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    # Both values that rope turns abreast: one product, which is cut in two where it lies.
    both = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    lines = both // 2 // H * D + both // 2 % H + both % 2 * H
    acc = _product(half, w, scales, rows, lines, K, ROWS, COLUMNS, DEPTH)
    acc *= _scale(squares, rows, K, eps)[:, None]
    first, second = tl.split(tl.reshape(acc, [ROWS, COLUMNS // 2, 2]))

    pairs = tl.program_id(1) * (COLUMNS // 2) + tl.arange(0, COLUMNS // 2)
    head, place = pairs // H, pairs % H
    slot, position = tl.load(slots + rows), tl.load(positions + rows)
    angle = position[:, None] * H + place[None, :]
    is_turned = (head < HEADS + KV_HEADS)[None, :]
    c = tl.where(is_turned, tl.load(cos + angle), 1.0)
    s = tl.where(is_turned, tl.load(sin + angle), 0.0)
    kind = q.dtype.element_ty
    turned_first = (first * c - second * s).to(kind)
    turned_second = (second * c + first * s).to(kind)

    is_query = (head < HEADS)[None, :]
    target = q + rows[:, None] * (HEADS * D) + (head * D + place)[None, :]
    tl.store(target, turned_first, mask=is_query)
    tl.store(target + H, turned_second, mask=is_query)
    # Keys and values follow each other in the cache as they do behind the queries.
    kept = (layer * 2 * KV_HEADS + head - HEADS)[None, :]
    line = kept * tl.load(rooms + slot)[:, None] + position[:, None]
    target = cache + tl.load(places + slot)[:, None] * UNIT + line * D + place[None, :]
    tl.store(target, turned_first, mask=head[None, :] >= HEADS)
    tl.store(target + H, turned_second, mask=head[None, :] >= HEADS)


@triton.jit(do_not_specialize=["layer"])
def attend(
    q, cache, places, rooms, tiles, seen, layer, sharpness,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, UNIT: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A tile's rows over their slot, up to their own positions.

    tiles: int32 [., 4]: first row, rows, slot, position of the first row; of one prompt each.
    sharpness: Of the softmax, to base 2.
    """
    tile, head = tl.program_id(0) * 4 + tiles, tl.program_id(1)
    count = tl.load(tile + 1)
    if count == 0:
        return
    members = tl.arange(0, ROWS)
    is_row = (members < count)[:, None]
    columns = tl.arange(0, D)
    lines = (tl.load(tile) + members)[:, None] * (HEADS * D) + head * D + columns[None, :]
    query = tl.load(q + lines, mask=is_row, other=0.0)
    slot, first = tl.load(tile + 2), tl.load(tile + 3)
    position, end = (first + members)[:, None], first + count
    room = tl.load(rooms + slot)
    keys = cache + tl.load(places + slot) * UNIT
    keys += (layer * 2 * KV_HEADS + head // (HEADS // KV_HEADS)) * room * D
    values = keys + KV_HEADS * room * D
    peak = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, D], tl.float32)
    # One loop with a mask throughout: a block gives a row the same bits wherever its tile begins,
    # and one that lies in its future adds nothing.
    for start in range(0, end, BLOCK):
        at = start + tl.arange(0, BLOCK)
        is_kept = at < end
        k = tl.load(keys + at[None, :] * D + columns[:, None], mask=is_kept[None, :], other=0.0)
        v = tl.load(values + at[:, None] * D + columns[None, :], mask=is_kept[:, None], other=0.0)
        scores = tl.dot(query, k) * sharpness
        scores = tl.where(at[None, :] <= position, scores, float("-inf"))
        higher = tl.maximum(peak, tl.max(scores, 1))
        p = tl.exp2(scores - higher[:, None])
        shrink = tl.exp2(peak - higher)
        total = total * shrink + tl.sum(p, 1)
        acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None])
        peak = higher
    tl.store(seen + lines, (acc / total[:, None]).to(seen.dtype.element_ty), mask=is_row)


@triton.jit
def norm_swiglu(
    half, squares, w, scales, y, count, N, K, eps,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """y[R, N] = silu(gate) * up, where rms_norm(x[R, K]) @ w[2 N, K].T is gate and up abreast."""
    if tl.program_id(0) * ROWS >= tl.load(count):
        return
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    # Each gate beside its up.
    both = tl.arange(0, 2 * COLUMNS)
    lines = tl.program_id(1) * COLUMNS + both // 2 + both % 2 * N
    acc = _product(half, w, scales, rows, lines, K, ROWS, 2 * COLUMNS, DEPTH)
    acc *= _scale(squares, rows, K, eps)[:, None]
    gate, up = tl.split(tl.reshape(acc, [ROWS, COLUMNS, 2]))
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    product = gate * tl.sigmoid(gate) * up
    tl.store(y + rows[:, None] * N + columns[None, :], product.to(y.dtype.element_ty))


@triton.jit
def linear_add(
    inputs, w, scales, x, half, squares, count, N, K,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """x[R, N] += inputs[R, K] @ w[N, K].T; squares are those of the norm that follows."""
    if tl.program_id(0) * ROWS >= tl.load(count):
        return
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    where = rows[:, None] * N + columns[None, :]
    acc = _product(inputs, w, scales, rows, columns, K, ROWS, COLUMNS, DEPTH)
    acc += tl.load(x + where)
    tl.store(x + where, acc)
    tl.store(half + where, acc.to(half.dtype.element_ty))
    # Integers, as they add up to the same in any order.
    tl.atomic_add(squares + rows, tl.sum((acc * acc * SQUARES_UNIT).to(tl.int64), 1), sem="relaxed")


@triton.jit
def norm_head(
    half, squares, w, lasts, scores, prompts, N, K, eps,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """scores[prompts, N] = rms_norm(x[lasts, K]) @ w[N, K].T.

    lasts: int32 [prompts]: the last row of each; -1 where it is not in this pass.
    """
    targets = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    rows = tl.load(lasts + targets, mask=targets < prompts, other=-1)
    if tl.max(rows, 0) < 0:
        return
    is_last = (rows >= 0)[:, None]
    rows = tl.maximum(rows, 0)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    acc = _product(half, w, None, rows, columns, K, ROWS, COLUMNS, DEPTH)
    acc *= _scale(squares, rows, K, eps)[:, None]
    tl.store(scores + targets[:, None] * N + columns[None, :], acc, mask=is_last)
