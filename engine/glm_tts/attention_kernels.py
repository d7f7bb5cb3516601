"""Rope, the cache and attention over it, in Triton; see `kernels`.

A slot's keys and values are one piece of memory, [layers, 2, KV_HEADS, rooms[slot], D], found by
its distance from `cache`, in units of UNIT values.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803, N806

from __future__ import annotations

import triton
import triton.language as tl

from engine.glm_tts.kernels import begin


@triton.jit
def _position(starts, drawn, slot, room):
    """Of the token that a slot reads next: the prompt comes first, and it drew one token already.

    A slot that is stepped beyond its room stays at its end, where it harms nobody.
    """
    position = tl.load(starts + slot) + tl.load(drawn + slot) - 1
    return tl.minimum(tl.maximum(position, 0), room - 1).to(tl.int32)


@triton.jit
def _rotated(line, cos, sin, D: tl.constexpr):
    """The two halves of the vectors at `line` after rope, float32."""
    first = tl.load(line).to(tl.float32)
    second = tl.load(line + D // 2).to(tl.float32)
    return first * cos - second * sin, second * cos + first * sin


@triton.jit(do_not_specialize=["layer"])
def attend(
    qkv, cos, sin, cache, places, rooms, slots, starts, drawn, sums, peaks, arrived, out,
    layer, scale,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, UNIT: tl.constexpr,
    SPLITS: tl.constexpr, SPLIT: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """One query a row over its slot, once the new key and value are kept; split in time.

    Splits have SPLIT tokens each wherever they fall; the last of a row and head to arrive adds
    them up, in order. GROUP is HEADS // KV_HEADS rounded up to a tile.
    """
    begin(PDL)
    row, head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    slot = tl.load(slots + row)
    room = tl.load(rooms + slot)
    position = _position(starts, drawn, slot, room)
    splits = position // SPLIT + 1
    if split >= splits:
        return
    H: tl.constexpr = D // 2
    SHARING: tl.constexpr = HEADS // KV_HEADS
    half, full = tl.arange(0, H), tl.arange(0, D)
    members = tl.arange(0, GROUP)
    is_member = (members < SHARING)[:, None]
    kind = cache.dtype.element_ty
    line = qkv + row * (HEADS + 2 * KV_HEADS) * D
    c, s = tl.load(cos + position * H + half), tl.load(sin + position * H + half)
    # Members beyond the last repeat it: what they give is not kept.
    q = head * SHARING + tl.minimum(members, SHARING - 1)
    first, second = _rotated(line + q[:, None] * D + half[None, :], c[None, :], s[None, :], D)
    first, second = first.to(kind), second.to(kind)
    keys = cache + tl.load(places + slot) * UNIT
    keys += (layer * 2 * KV_HEADS + head) * room * D
    values = keys + KV_HEADS * room * D
    peak = tl.full([GROUP], float("-inf"), tl.float32)
    total = tl.zeros([GROUP], tl.float32)
    acc = tl.zeros([GROUP, D], tl.float32)
    if split == splits - 1:
        n1, n2 = _rotated(line + (HEADS + head) * D + half, c, s, D)
        n1, n2 = n1.to(kind), n2.to(kind)
        v = tl.load(line + (HEADS + KV_HEADS + head) * D + full)
        tl.store(keys + position * D + half, n1)
        tl.store(keys + position * D + H + half, n2)
        tl.store(values + position * D + full, v)
        products = first.to(tl.float32) * n1.to(tl.float32)[None, :]
        products += second.to(tl.float32) * n2.to(tl.float32)[None, :]
        peak = scale * tl.sum(products, 1)
        total += 1.0
        acc += v.to(tl.float32)[None, :]
    end = tl.minimum(position, (split + 1) * SPLIT)
    for start in range(split * SPLIT, end, BLOCK):
        at = start + tl.arange(0, BLOCK)
        is_seen = at < end
        k1 = tl.load(keys + at[None, :] * D + half[:, None], mask=is_seen[None, :], other=0.0)
        k2 = tl.load(keys + H + at[None, :] * D + half[:, None], mask=is_seen[None, :], other=0.0)
        v = tl.load(values + at[:, None] * D + full[None, :], mask=is_seen[:, None], other=0.0)
        scores = tl.dot(second, k2, tl.dot(first, k1)) * scale
        scores = tl.where(is_seen[None, :], scores, float("-inf"))
        higher = tl.maximum(peak, tl.max(scores, 1))
        p = tl.exp(scores - higher[:, None])
        shrink = tl.exp(peak - higher)
        total = total * shrink + tl.sum(p, 1)
        acc = tl.dot(p.to(kind), v, acc * shrink[:, None])
        peak = higher
    target = out + row * HEADS * D + (head * SHARING + members)[:, None] * D + full[None, :]
    if splits == 1:
        tl.store(target, (acc / total[:, None]).to(out.dtype.element_ty), mask=is_member)
    else:
        place = (row * KV_HEADS + head) * SPLITS
        mine = (place + split) * GROUP + members
        tl.store(sums + mine[:, None] * D + full[None, :], acc, mask=is_member)
        tl.store(peaks + mine * 2, peak)
        tl.store(peaks + mine * 2 + 1, total)
        # All threads have written before one of them says so.
        tl.debug_barrier()
        counter = arrived + row * KV_HEADS + head
        if tl.atomic_add(counter, 1, sem="acq_rel") == splits - 1:
            peak = tl.full([GROUP], float("-inf"), tl.float32)
            total = tl.zeros([GROUP], tl.float32)
            acc = tl.zeros([GROUP, D], tl.float32)
            for other in range(splits):
                theirs = (place + other) * GROUP + members
                their_peak = tl.load(peaks + theirs * 2, cache_modifier=".cg")
                their_total = tl.load(peaks + theirs * 2 + 1, cache_modifier=".cg")
                their_acc = tl.load(
                    sums + theirs[:, None] * D + full[None, :],
                    mask=is_member, other=0.0, cache_modifier=".cg",
                )  # fmt: skip
                higher = tl.maximum(peak, their_peak)
                shrink, their_shrink = tl.exp(peak - higher), tl.exp(their_peak - higher)
                total = total * shrink + their_total * their_shrink
                acc = acc * shrink[:, None] + their_acc * their_shrink[:, None]
                peak = higher
            tl.store(target, (acc / total[:, None]).to(out.dtype.element_ty), mask=is_member)
            tl.store(counter, 0)


@triton.jit(do_not_specialize=["slot", "layer"])
def keep_prompt(
    qkv, cos, sin, cache, places, rooms, slot, layer,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, UNIT: tl.constexpr,
    LINES: tl.constexpr,
):  # fmt: skip
    """Rope a prompt's queries and keys where they stand, and keep keys and values; by position.

    LINES: HEADS + 2 KV_HEADS rounded up to a power of two.
    """
    position = tl.program_id(0)
    H: tl.constexpr = D // 2
    line, half = tl.arange(0, LINES)[:, None], tl.arange(0, H)[None, :]
    source = qkv + (position * (HEADS + 2 * KV_HEADS) + line) * D + half
    is_line = line < HEADS + 2 * KV_HEADS
    first = tl.load(source, mask=is_line, other=0.0)
    second = tl.load(source + H, mask=is_line, other=0.0)
    c, s = tl.load(cos + position * H + half), tl.load(sin + position * H + half)
    is_turned = line < HEADS + KV_HEADS
    a, b = first.to(tl.float32), second.to(tl.float32)
    first = tl.where(is_turned, (a * c - b * s).to(first.dtype), first)
    second = tl.where(is_turned, (b * c + a * s).to(second.dtype), second)
    tl.store(source, first, mask=is_turned)
    tl.store(source + H, second, mask=is_turned)
    # Keys and values follow each other in the cache as they do behind the queries.
    kept = layer * 2 * KV_HEADS + line - HEADS
    offset = (kept * tl.load(rooms + slot) + position) * D
    target = cache + tl.load(places + slot) * UNIT + offset + half
    is_kept = is_line & (line >= HEADS)
    tl.store(target, first, mask=is_kept)
    tl.store(target + H, second, mask=is_kept)


@triton.jit
def swiglu(gate_up, y, N, BLOCK: tl.constexpr):
    """y[M, N] = silu(gate) * up of gate_up[M, 2 N]."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_column = columns < N
    source = gate_up + row * 2 * N + columns
    gate = tl.load(source, mask=is_column, other=0.0).to(tl.float32)
    up = tl.load(source + N, mask=is_column, other=0.0).to(tl.float32)
    product = gate * tl.sigmoid(gate) * up
    tl.store(y + row * N + columns, product.to(y.dtype.element_ty), mask=is_column)
