"""The sampler of `sampling`, in Triton: one kernel over chunks of the scores, one over rows.

What a chunk leaves for its row: its K_MAX best candidates, the peak and the mass of its softmax,
and who won the race of all. A row's K_MAX best are among those.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.random import philox_impl

from engine.glm_tts.kernels import begin
from engine.glm_tts.philox import Purpose

_NUCLEUS = tl.constexpr(int(Purpose.NUCLEUS))
_FULL = tl.constexpr(int(Purpose.FULL))


@triton.jit
def _exponentials(block, seed, step, PURPOSE: tl.constexpr):
    """As `philox.exponentials`: four numbers for each block of four columns."""
    zero = block * 0
    return philox_impl(
        block.to(tl.uint32),
        (zero + step).to(tl.uint32),
        (zero + (seed >> 32)).to(tl.uint32),
        zero.to(tl.uint32),
        (zero + seed).to(tl.uint32),
        (zero + PURPOSE).to(tl.uint32),
        10,
    )


@triton.jit
def _exponential(word):
    return -tl.log(((word >> 9).to(tl.float32) + 0.5) * 1.1920928955078125e-07)


@triton.jit
def _is_best(score, is_real, KEPT: tl.constexpr):
    """Marks the KEPT highest scores [N], real ones first; of equals, the first."""
    bits = score.to(tl.uint32, bitcast=True)
    sign = tl.full([], 0x80000000, tl.uint32)
    # Floats sort as their bits do, once those of negative ones are turned round.
    order = tl.where(bits >= sign, bits ^ 0xFFFFFFFF, bits | sign)
    order = tl.where(is_real, order, 0)
    least, step = tl.full([], 0, tl.uint32), sign
    for _ in range(32):
        higher = least | step
        least = tl.where(tl.sum((order >= higher).to(tl.int32), 0) >= KEPT, higher, least)
        step = step >> 1
    is_above, is_equal = order > least, order == least
    room = KEPT - tl.sum(is_above.to(tl.int32), 0)
    return is_above | (is_equal & (tl.cumsum(is_equal.to(tl.int32), 0) <= room))


@triton.jit
def shortlist(
    scores, slots, temperatures, seeds, drawn, min_tokens,
    kept_scores, kept_ids, peaks, masses, races, winners,
    V, STRIDE, END,
    CHUNKS: tl.constexpr, CHUNK: tl.constexpr, KEPT: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """What a row needs to know of a chunk of its scores; see the module."""
    begin(PDL)
    row, chunk = tl.program_id(0), tl.program_id(1)
    slot = tl.load(slots + row)
    step, seed = tl.load(drawn + slot), tl.load(seeds + slot)
    place = row * CHUNKS + chunk
    at = chunk * CHUNK + tl.arange(0, CHUNK)
    is_real = at < V
    score = tl.load(scores + row.to(tl.int64) * STRIDE + at, mask=is_real, other=float("-inf"))
    is_banned = (at == END) & (step < tl.load(min_tokens + slot))
    score = tl.where(is_banned, float("-inf"), score)

    blocks = chunk * (CHUNK // 4) + tl.arange(0, CHUNK // 4)
    a, b, c, d = _exponentials(blocks, seed, step, _FULL)
    word = tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), [CHUNK])
    race = score - tl.log(_exponential(word))
    best = tl.max(race, 0)
    tl.store(races + place, best)
    tl.store(winners + place, tl.min(tl.where(race == best, at, V), 0))

    warm = score / tl.load(temperatures + slot)
    peak = tl.max(warm, 0)
    tl.store(peaks + place, peak)
    # Where all are banned there is no mass, and no peak to measure it by.
    mass = tl.exp(warm - tl.where(peak == float("-inf"), 0.0, peak))
    tl.store(masses + place, tl.sum(mass, 0))

    is_kept = _is_best(score, is_real, KEPT)
    target = place * KEPT + tl.cumsum(is_kept.to(tl.int32), 0) - 1
    tl.store(kept_scores + target, score, mask=is_kept)
    tl.store(kept_ids + target, at, mask=is_kept)


@triton.jit
def draw(
    scores, slots, temperatures, top_ps, top_ks, windows, taus, is_ras_of, seeds, drawn,
    min_tokens, history, kept_scores, kept_ids, peaks, masses, races, winners,
    best_scores, best_ids, tokens,
    V, STRIDE, END,
    CHUNKS: tl.constexpr, CHUNKS_BLOCK: tl.constexpr, KEPT: tl.constexpr,
    WINDOW: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """A row's token, as `sampling.sample` draws it, and what its slot remembers of it."""
    begin(PDL)
    row = tl.program_id(0)
    slot = tl.load(slots + row)
    step, seed = tl.load(drawn + slot), tl.load(seeds + slot)
    is_ras = tl.load(is_ras_of + slot) != 0
    ranks = tl.arange(0, KEPT)

    # The best of all chunks, still in the order of their ids.
    candidates = tl.arange(0, CHUNKS_BLOCK * KEPT)
    is_real = candidates < CHUNKS * KEPT
    source = row * CHUNKS * KEPT + candidates
    score = tl.load(kept_scores + source, mask=is_real, other=float("-inf"))
    ids = tl.load(kept_ids + source, mask=is_real, other=0)
    is_real &= ids < V
    is_best = _is_best(score, is_real, KEPT)
    target = row * KEPT + tl.cumsum(is_best.to(tl.int32), 0) - 1
    tl.store(best_scores + target, score, mask=is_best)
    tl.store(best_ids + target, ids, mask=is_best)
    tl.debug_barrier()
    score, ids = tl.load(best_scores + row * KEPT + ranks), tl.load(best_ids + row * KEPT + ranks)
    # The same once more, to hold each against each.
    others = tl.load(best_scores + row * KEPT + ranks)

    chunks = tl.arange(0, CHUNKS_BLOCK)
    is_chunk = chunks < CHUNKS
    parts = row * CHUNKS + chunks
    peak_of = tl.load(peaks + parts, mask=is_chunk, other=float("-inf"))
    peak = tl.max(peak_of, 0)
    mass_of = tl.load(masses + parts, mask=is_chunk, other=0.0)
    mass = tl.sum(mass_of * tl.exp(peak_of - peak), 0)
    temperature = tl.load(temperatures + slot)
    p = tl.exp(score / temperature - peak) / mass
    p_others = tl.exp(others / temperature - peak) / mass

    is_before = (others[None, :] > score[:, None]) | (
        (others[None, :] == score[:, None]) & (ranks[None, :] < ranks[:, None])
    )
    rank = tl.sum(is_before.to(tl.int32), 1)
    mass_before = tl.sum(tl.where(is_before, p_others[None, :], 0.0), 1)

    # As `sampling._without_end`: for top-k, a banned end leaves its place empty.
    end_score = tl.load(scores + row.to(tl.int64) * STRIDE + END)
    top_k = tl.load(top_ks + slot)
    is_end_kept = tl.sum((score > end_score).to(tl.int32), 0) < top_k
    is_vacant = (step < tl.load(min_tokens + slot)) & is_end_kept & (is_ras == 0)
    top_k = tl.maximum(top_k - is_vacant.to(tl.int64), 1)
    is_within = (mass_before < tl.load(top_ps + slot)) | (is_ras == 0)
    p = tl.where(is_within & (rank < top_k), p, 0.0)

    a, b, c, d = _exponentials(rank // 4, seed, step, _NUCLEUS)
    column = rank % 4
    word = tl.where(column == 0, a, tl.where(column == 1, b, tl.where(column == 2, c, d)))
    chance = p / _exponential(word)
    first = tl.min(tl.where(chance == tl.max(chance, 0), rank, KEPT), 0)
    chosen = tl.max(tl.where(rank == first, ids, 0), 0).to(tl.int64)

    past = tl.load(history + slot * WINDOW + ranks, mask=ranks < WINDOW, other=-1)
    window = tl.load(windows + slot)
    repeats = tl.sum(((past == chosen) & (ranks < window)).to(tl.int32), 0).to(tl.float32)
    is_worn = is_ras & (repeats >= window.to(tl.float32) * tl.load(taus + slot))
    race = tl.load(races + parts, mask=is_chunk, other=float("-inf"))
    winner = tl.load(winners + parts, mask=is_chunk, other=V)
    other = tl.min(tl.where(race == tl.max(race, 0), winner, V), 0).to(tl.int64)
    token = tl.where(is_worn, other, chosen)

    # All threads have read the past before one of them changes it.
    tl.debug_barrier()
    tl.store(history + slot * WINDOW + ranks + 1, past, mask=ranks + 1 < WINDOW)
    tl.store(history + slot * WINDOW, token)
    tl.store(drawn + slot, step + 1)
    tl.store(tokens + row, token)
