"""The samplers against what the original drew, and against the distributions that they promise."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.glm_tts.golden_weights import gw
from engine.glm_tts.sampling import K_MAX, Draws, SamplerParams, nucleus, race, sample
from engine.tests.glm_tts.goldens import golden

RAS = golden("ras")


def params(
    rows: int,
    *,
    temperature: float = 1.0,
    top_p: float = 0.8,
    top_k: int = 25,
    window: int = 10,
    tau: float = 0.1,
    is_ras: bool = True,
) -> SamplerParams:
    values = (temperature, top_p, top_k, window, tau, is_ras)
    return SamplerParams(*(torch.tensor(value).expand(rows) for value in values))


def newest_first(history: Tensor) -> Tensor:
    """A row of a golden, oldest first and padded at its end."""
    known = history[history >= 0].flip(0)
    return torch.cat((known, torch.full((len(history) - len(known),), -1)))


def torch_draws(seed: int, kept: int, vocabulary: int) -> Draws:
    """The numbers that two calls of torch.multinomial draw inside."""
    torch.manual_seed(seed)
    first = torch.ones(K_MAX)
    first[:kept] = torch.empty(kept).exponential_()
    return Draws(first, torch.empty(vocabulary).exponential_())


def many_draws(rows: int, vocabulary: int, seed: int = 0) -> Draws:
    torch.manual_seed(seed)
    return Draws(
        torch.empty(rows, K_MAX).exponential_(), torch.empty(rows, vocabulary).exponential_()
    )


def frequencies(tokens: Tensor, vocabulary: int) -> Tensor:
    return tokens.bincount(minlength=vocabulary) / len(tokens)


def no_history(rows: int) -> Tensor:
    return torch.full((rows, 10), -1)


def never(rows: int) -> Tensor:
    return torch.zeros(rows, dtype=torch.bool)


def test_nucleus_is_the_originals() -> None:
    kept = nucleus(RAS["scores"], params(300))
    counts = (kept.p > 0).sum(-1)
    assert torch.equal(counts, RAS["nucleus_n"])
    within = torch.arange(25) < counts[:, None]
    assert torch.equal(kept.ids[:, :25][within], RAS["nucleus_idx"][within])
    assert torch.equal(kept.p[:, :25][within], RAS["nucleus_prob"][within])


def test_tokens_are_the_originals_with_its_draws() -> None:
    draws = [
        torch_draws(int(seed), int(kept), 64)
        for seed, kept in zip(RAS["seed"], RAS["nucleus_n"], strict=True)
    ]
    first, full = (torch.stack(parts) for parts in zip(*draws, strict=True))
    kept = nucleus(RAS["scores"], params(300))
    chosen = kept.ids.gather(-1, race(kept.p, first)[:, None])[:, 0]
    assert torch.equal(chosen, RAS["nucleus_draw"])
    history = torch.stack([newest_first(row) for row in RAS["history"]])
    tokens = sample(RAS["scores"], params(300), history, never(300), 63, Draws(first, full))
    assert torch.equal(tokens, RAS["token"])
    assert (RAS["token"] != RAS["nucleus_draw"]).sum() == 40  # the second draw was needed


def test_whole_vocabulary_draws_are_the_originals() -> None:
    vocabulary = 98_304
    scores = torch.from_numpy(gw("ras.full", (1, vocabulary), 2.5)).log_softmax(-1)
    kept = nucleus(scores, params(1))
    assert torch.equal(kept.ids[0, :25], RAS["full.nucleus_idx"])
    torch.testing.assert_close(kept.p[0, :25], RAS["full.nucleus_prob"])
    count = int((kept.p > 0).sum())
    for index, expected in enumerate(RAS["full.token"]):
        draws = torch_draws(5000 + index, count, vocabulary)
        history = RAS["full.top10"].flip(0) if index % 2 == 0 else no_history(1)[0]
        token = sample(
            scores,
            params(1),
            history[None],
            never(1),
            vocabulary - 1,
            Draws(draws.nucleus[None], draws.full[None]),
        )
        assert token == expected


def test_repetitive_case_has_the_originals_distribution() -> None:
    rows = 20_000
    tokens = sample(
        RAS["dist.scores"].expand(rows, -1),
        params(rows),
        RAS["dist.history"].flip(0).expand(rows, -1),
        never(rows),
        63,
        many_draws(rows, 64),
    )
    # Both sides are counts of 20 000: the difference has twice the variance of one.
    chances = RAS["dist.freq"]
    spread = (2 * chances * (1 - chances) / rows).sqrt()
    assert ((frequencies(tokens, 64) - chances).abs() <= 4 * spread + 3 / rows).all()


def test_of_equal_scores_the_lower_id_comes_first() -> None:
    scores = torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.0, -torch.inf]])
    assert nucleus(scores, params(1)).ids.tolist() == [[1, 3, 0, 2, 4, 5]]


def test_token_that_reaches_top_p_is_kept() -> None:
    scores = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
    counts = [int((nucleus(scores, params(1, top_p=p)).p > 0).sum()) for p in (0.49, 0.51, 0.8)]
    assert counts == [1, 2, 3]


def test_temperature_does_not_reach_the_second_draw() -> None:
    rows = 20_000
    chances = torch.tensor([0.4, 0.3, 0.2, 0.1])
    tokens = sample(
        chances.log().expand(rows, -1),
        params(rows, temperature=0.01),
        torch.zeros(rows, 10, dtype=torch.int64),
        never(rows),
        3,
        many_draws(rows, 4),
    )
    torch.testing.assert_close(frequencies(tokens, 4), chances, atol=0.015, rtol=0)


def test_window_ends_where_it_should() -> None:
    scores = torch.tensor([[9.0, 0.0, 0.0, 0.0]]).expand(2, -1)
    history = torch.full((2, 10), -1)
    history[0, 3], history[1, 4] = 0, 0
    draws = Draws(torch.ones(2, K_MAX), torch.tensor([9e9, 9e9, 1.0, 9e9]).expand(2, -1))
    tokens = sample(scores, params(2, window=4, tau=0.25), history, never(2), 3, draws)
    assert tokens.tolist() == [2, 0]


def test_banned_end_is_never_drawn_by_either_sampler() -> None:
    rows = 4_000
    scores = torch.tensor([0.0, 0.0, 0.0, 3.0]).expand(rows, -1)
    history = torch.zeros(rows, 10, dtype=torch.int64)
    for is_ras in (True, False):
        for banned in (True, False):
            tokens = sample(
                scores,
                params(rows, is_ras=is_ras),
                history,
                torch.full((rows,), banned),
                3,
                many_draws(rows, 4),
            )
            assert bool((tokens == 3).any()) is not banned


def test_top_k_without_the_end_shares_its_chance_out() -> None:
    rows = 20_000
    scores = torch.tensor([0.1, 0.2, 0.05, 0.5, 0.15]).log().expand(rows, -1)
    ban = torch.ones(rows, dtype=torch.bool)
    tokens = sample(
        scores, params(rows, top_k=3, is_ras=False), no_history(rows), ban, 3, many_draws(rows, 5)
    )
    # The three kept are the end, 1 and 4.
    expected = torch.tensor([0, 4 / 7, 0, 0, 3 / 7])
    torch.testing.assert_close(frequencies(tokens, 5), expected, atol=0.015, rtol=0)


def test_banned_end_takes_a_place_from_top_k_only_where_it_had_one() -> None:
    rows, ban = 500, torch.ones(500, dtype=torch.bool)

    def drawn(scores: list[float], *, is_ras: bool) -> set[int]:
        settings = params(rows, top_k=2, tau=2.0, is_ras=is_ras)
        many = torch.tensor(scores).expand(rows, -1)
        return set(sample(many, settings, no_history(rows), ban, 3, many_draws(rows, 4)).tolist())

    assert drawn([0.0, 0.4, 0.2, 1.0], is_ras=False) == {1}
    assert drawn([0.0, 0.4, 0.2, 0.1], is_ras=False) == {1, 2}
    assert drawn([0.0, 0.4, 0.2, 1.0], is_ras=True) == {1, 2}


def test_if_only_the_end_is_kept_the_next_best_comes() -> None:
    scores, ban = torch.tensor([[0.0, 2.0, 1.0, 9.0]]), torch.ones(1, dtype=torch.bool)
    for is_ras in (True, False):
        for settings in (
            params(1, top_k=1, is_ras=is_ras),
            params(1, temperature=0.001, is_ras=is_ras),
        ):
            token = sample(scores, settings, no_history(1), ban, 3, many_draws(1, 4))
            assert token.tolist() == [1]


def test_rows_do_not_know_of_each_other() -> None:
    mixed = SamplerParams(
        temperature=torch.tensor([1.0, 0.5, 2.0]),
        top_p=torch.tensor([0.8, 0.3, 1.0]),
        top_k=torch.tensor([25, 4, 40]),
        window=torch.tensor([10, 3, 10]),
        tau=torch.tensor([0.1, 0.4, 0.1]),
        is_ras=torch.tensor([True, True, False]),
    )
    scores, ban = RAS["scores"][:3], torch.tensor([False, True, True])
    history = torch.stack([newest_first(row) for row in RAS["history"][:3]])
    draws = many_draws(3, 64)
    together = sample(scores, mixed, history, ban, 5, draws)
    for row in range(3):
        one = slice(row, row + 1)
        alone = sample(
            scores[one],
            SamplerParams(*(values[one] for values in mixed)),
            history[one],
            ban[one],
            5,
            Draws(*(values[one] for values in draws)),
        )
        assert torch.equal(alone, together[one])
