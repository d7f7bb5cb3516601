"""Rope, the cache and attention over it, in Triton; see `kernels`.

A slot's keys and values are one piece of memory, [layers, 2, KV_HEADS, rooms[slot], D], found by
its distance from `cache`, in units of UNIT values.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803, N806

from __future__ import annotations

import triton
import triton.language as tl

from engine.glm_tts.kernels import begin, finish


@triton.jit
def _position(starts, drawn, slot, room):
    """Of the token that a slot reads next: the prompt comes first, and it drew one token already.

    A slot that is stepped beyond its room stays at its end, where it harms nobody.
    """
    position = tl.load(starts + slot) + tl.load(drawn + slot) - 1
    return tl.minimum(tl.maximum(position, 0), room - 1).to(tl.int32)


@triton.jit
def _rotated(line, other, cos, sin):
    """Vectors after rope, float32: as they are times cos, with their halves exchanged times sin."""
    return tl.load(line).to(tl.float32) * cos + tl.load(other).to(tl.float32) * sin


@triton.jit
def _keys_and_values(keys, values, split, position, SPLIT: tl.constexpr, D: tl.constexpr):
    """Of a split's tokens before the newest: [D, SPLIT] and [SPLIT, D]."""
    at, full = split * SPLIT + tl.arange(0, SPLIT), tl.arange(0, D)
    is_seen = at < position
    k = tl.load(keys + at[None, :] * D + full[:, None], mask=is_seen[None, :], other=0.0)
    v = tl.load(values + at[:, None] * D + full[None, :], mask=is_seen[:, None], other=0.0)
    return k, v


@triton.jit(do_not_specialize=["layer"])
def attend(
    qkv, cos, sin, cache, places, rooms, slots, starts, drawn, sums, peaks, arrived, out,
    layer, scale,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, UNIT: tl.constexpr,
    SPLITS: tl.constexpr, SPLIT: tl.constexpr, GROUP: tl.constexpr, SHARING: tl.constexpr,
    IS_APART: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """One query a row over its slot, once the new key and value are kept; split in time.

    Splits have SPLIT tokens each wherever they fall. A row and head have as many programs as the
    grid is deep, which take splits in turn; the last to arrive adds up all splits. SHARING is
    HEADS // KV_HEADS rounded up to a power of two, GROUP that rounded up to a tile.

    With PDL, the next kernel is set up beside this one. Where each split has a program of its own
    (IS_APART), all but the query is read before the kernel that makes the query has ended.
    """
    finish(PDL)
    row, head, first = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    programs = tl.num_programs(2)
    slot = tl.load(slots + row)
    room = tl.load(rooms + slot)
    position = _position(starts, drawn, slot, room)
    splits = position // SPLIT + 1
    if first >= splits:
        return
    H: tl.constexpr = D // 2
    MEMBERS: tl.constexpr = HEADS // KV_HEADS
    full = tl.arange(0, D)
    other = (full + H) % D
    members = tl.arange(0, GROUP)
    is_member = (members < MEMBERS)[:, None]
    kind = cache.dtype.element_ty
    line = qkv + row * (HEADS + 2 * KV_HEADS) * D
    c = tl.load(cos + position * H + full % H)
    s = tl.load(sin + position * H + full % H) * tl.where(full < H, -1.0, 1.0)
    keys = cache + tl.load(places + slot) * UNIT
    keys += (layer * 2 * KV_HEADS + head) * room * D
    values = keys + KV_HEADS * room * D
    if IS_APART:
        k, v = _keys_and_values(keys, values, first, position, SPLIT, D)
    begin(PDL)
    # Members beyond the last repeat it: what they give is not kept.
    q = line + (head * MEMBERS + tl.minimum(members, MEMBERS - 1))[:, None] * D
    q = _rotated(q + full[None, :], q + other[None, :], c[None, :], s[None, :]).to(kind)
    new_line = line + (HEADS + head) * D
    new_key = _rotated(new_line + full, new_line + other, c, s).to(kind)
    new_value = tl.load(new_line + KV_HEADS * D + full)
    new_score = scale * tl.sum(q.to(tl.float32) * new_key.to(tl.float32)[None, :], 1)
    new_value_sum = new_value.to(tl.float32)[None, :]
    is_new_here = first == (splits - 1) % programs
    tl.store(keys + position * D + full, new_key, mask=is_new_here)
    tl.store(values + position * D + full, new_value, mask=is_new_here)
    place = (row * KV_HEADS + head) * SPLITS
    for split in range(first, splits, programs):
        at = split * SPLIT + tl.arange(0, SPLIT)
        # The new token counts by its score alone: what the cache has of it is on its way.
        is_seen = at < position
        if not IS_APART:
            k, v = _keys_and_values(keys, values, split, position, SPLIT, D)
        scores = tl.where(is_seen[None, :], tl.dot(q, k) * scale, float("-inf"))
        last_score = tl.where(split == splits - 1, new_score, float("-inf"))
        peak = tl.maximum(tl.max(scores, 1), last_score)
        p, last = tl.exp(scores - peak[:, None]), tl.exp(last_score - peak)
        acc = tl.dot(p.to(kind), v, last[:, None] * new_value_sum)
        mine = (place + split) * SHARING + members
        tl.store(sums + mine[:, None] * D + full[None, :], acc, mask=is_member)
        tl.store(peaks + mine * 2, peak, mask=members < MEMBERS)
        tl.store(peaks + mine * 2 + 1, tl.sum(p, 1) + last, mask=members < MEMBERS)
    # All threads have written before one of them says so.
    tl.debug_barrier()
    counter = arrived + row * KV_HEADS + head
    if tl.atomic_add(counter, 1, sem="acq_rel") == tl.minimum(splits, programs) - 1:
        tl.store(counter, 0)
        target = out + (row * HEADS + head * MEMBERS) * D
        _add_up(sums, peaks, place, splits, target, MEMBERS, SHARING, D)


@triton.jit
def _add_up(
    sums, peaks, place, splits, target,
    MEMBERS: tl.constexpr, SHARING: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Attention over all splits from what each left, to target[MEMBERS, D]."""
    # Many at once: each load is a wait.
    COUNT: tl.constexpr = 16
    members, full = tl.arange(0, SHARING), tl.arange(0, D)
    is_member = (members < MEMBERS)[None, :]
    peak = tl.full([SHARING], float("-inf"), tl.float32)
    total = tl.zeros([SHARING], tl.float32)
    acc = tl.zeros([SHARING, D], tl.float32)
    for start in range(0, splits, COUNT):
        split = start + tl.arange(0, COUNT)[:, None]
        is_there = (split < splits) & is_member
        at = (place + split) * SHARING + members[None, :]
        # Members beyond the last peak at 0, so that they too have a number.
        none = tl.where(is_member, float("-inf"), 0.0)
        peak_of = tl.load(peaks + at * 2, mask=is_there, other=none, cache_modifier=".cg")
        total_of = tl.load(peaks + at * 2 + 1, mask=is_there, other=1.0, cache_modifier=".cg")
        sums_of = tl.load(
            sums + at[:, :, None] * D + full[None, None, :],
            mask=is_there[:, :, None], other=0.0, cache_modifier=".cg",
        )  # fmt: skip
        higher = tl.maximum(peak, tl.max(peak_of, 0))
        shrink, weight = tl.exp(peak - higher), tl.exp(peak_of - higher[None, :])
        total = total * shrink + tl.sum(weight * total_of, 0)
        acc = acc * shrink[:, None] + tl.sum(weight[:, :, None] * sums_of, 0)
        peak = higher
    where = target + members[:, None] * D + full[None, :]
    is_member = (members < MEMBERS)[:, None]
    tl.store(where, (acc / total[:, None]).to(target.dtype.element_ty), mask=is_member)
