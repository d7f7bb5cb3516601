"""The next token of each row: repetition-aware sampling (RAS), or plain top-k.

A draw is a race: with numbers q of the exponential distribution, argmax(p / q) falls on a token as
often as p says. The caller gives the numbers, so that nothing here depends on what was drawn before
or on what else is in the batch. No host synchronisation; all on the device of the scores.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

K_MAX = 64
"""Tokens that a first draw chooses among, at most."""


class SamplerParams(NamedTuple):
    """How each row draws; every field [B]."""

    temperature: Tensor
    """float32, above 0; of the first draw."""
    top_p: Tensor
    """float32: RAS keeps the likeliest until they have this mass, the one that reaches it too."""
    top_k: Tensor
    """int64, 1 to K_MAX: both keep no more than these."""
    window: Tensor
    """int64: tokens that RAS looks back."""
    tau: Tensor
    """float32: RAS draws again once this share of the window is the token it drew."""
    is_ras: Tensor
    """bool; else top-k."""


class Draws(NamedTuple):
    """Exponential numbers, float32, above 0."""

    nucleus: Tensor
    """[B, K_MAX]: for the token of each rank."""
    full: Tensor
    """[B, V]: for each token."""


class Nucleus(NamedTuple):
    """What a first draw chooses among, likeliest first."""

    ids: Tensor
    """[B, min(K_MAX, V)] int64."""
    p: Tensor
    """As `ids`, float32: not normalised, 0 for those not kept."""


def sample(
    scores: Tensor,
    params: SamplerParams,
    history: Tensor,
    ban_end: Tensor,
    end: int,
    draws: Draws,
) -> Tensor:
    """Draw a token for each row.

    RAS draws from the nucleus; a token that repeats itself is thrown away, and another drawn from
    all, at temperature 1.

    Args:
        scores: [B, V] float32: logits, or these less any constant.
        params: Of each row.
        history: [B, W] int64: tokens drawn so far, the newest first; -1 where there is none.
        ban_end: [B] bool: the end must not be drawn.
        end: Its token.
        draws: Of each row.
    Returns:
        [B] int64.
    """
    scores, params = _without_end(scores, params, ban_end, end)
    ids, p = nucleus(scores, params)
    winners = race(p, draws.nucleus[:, : p.shape[-1]])
    chosen = ids.gather(-1, winners[:, None])

    ages = torch.arange(history.shape[-1], device=history.device)
    repeats = ((history == chosen) & (ages < params.window[:, None])).sum(-1)
    is_worn = params.is_ras & (repeats >= params.window * params.tau)
    return torch.where(is_worn, race(scores.softmax(-1), draws.full), chosen[:, 0])


def nucleus(scores: Tensor, params: SamplerParams) -> Nucleus:
    """The tokens that the first draw of each row chooses among.

    Args:
        scores: [B, V] float32, as for `sample`; -inf for a banned token.
        params: Of each row.
    """
    ids, p = _likeliest(torch.softmax(scores / params.temperature[:, None], -1))
    # Added up one by one in float32, as the rule is defined: a scan would round otherwise.
    nothing = torch.zeros_like(p[:, 0])
    mass_before = torch.stack([*accumulate(p[:, :-1].unbind(-1), initial=nothing)], -1)
    is_within = (mass_before < params.top_p[:, None]) | ~params.is_ras[:, None]
    ranks = torch.arange(p.shape[-1], device=p.device)
    return Nucleus(ids, p.where(is_within & (ranks < params.top_k[:, None]), 0))


def race(p: Tensor, q: Tensor) -> Tensor:
    """Draw an index of each row.

    Args:
        p: [B, N] float32, need not be normalised.
        q: [B, N] float32, exponential numbers.
    Returns:
        [B] int64.
    """
    return (p / q).argmax(-1)


def _without_end(
    scores: Tensor, params: SamplerParams, ban_end: Tensor, end: int
) -> tuple[Tensor, SamplerParams]:
    """Where it is banned, the end has no chance; RAS gives its rank to the next token.

    Top-k does not: it is defined as drawing until something else comes, which leaves the end's
    place among the kept empty. Of one place, that would never end: the next token gets it.
    """
    is_kept = (scores > scores[:, end, None]).sum(-1) < params.top_k
    is_vacant = ban_end & is_kept & ~params.is_ras
    top_k = torch.where(is_vacant, params.top_k - 1, params.top_k).clamp(min=1)
    is_end = torch.arange(scores.shape[-1], device=scores.device) == end
    scores = scores.masked_fill(ban_end[:, None] & is_end, -torch.inf)
    return scores, params._replace(top_k=top_k)


def _likeliest(p: Tensor) -> tuple[Tensor, Tensor]:
    """Ids and p of the first ranks; of equals, the lower id comes first."""
    vocabulary = p.shape[-1]
    # topk leaves the order of equals open, and equals are common in half precision. Floats from 0
    # up sort as their bits do: these above the id, counted down, make keys that are all different.
    reverse_ids = torch.arange(vocabulary - 1, -1, -1, device=p.device)
    keys = (p.view(torch.int32).to(torch.int64) << 32) | reverse_ids
    best = keys.topk(min(K_MAX, vocabulary)).values
    ids = vocabulary - 1 - (best & 0xFFFF_FFFF)
    return ids, (best >> 32).to(torch.int32).view(torch.float32)
