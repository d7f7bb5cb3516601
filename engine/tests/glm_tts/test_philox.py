"""Random numbers by position."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engine.glm_tts.philox import Purpose, _philox, exponentials, normals


def rows(first: int, count: int, batch: int = 1) -> Tensor:
    return torch.arange(first, first + count).expand(batch, -1)


def test_words_are_those_of_the_published_vectors() -> None:
    zero, ones = torch.zeros(1, dtype=torch.int64), torch.full((1,), 0xFFFFFFFF)
    first = _philox((zero, zero, zero, zero), (zero, 0))
    assert [int(word) for word in first] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    last = _philox((ones, ones, ones, ones), (ones, 0xFFFFFFFF))
    assert [int(word) for word in last] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


def test_value_depends_on_its_place_alone() -> None:
    seeds = torch.tensor([5, 6])
    whole = normals(seeds, Purpose.MEL, rows(0, 40, 2), 7)
    part = normals(seeds[1:], Purpose.MEL, rows(30, 10), 7)
    assert torch.equal(whole[1:, 30:], part)
    narrow = exponentials(seeds, Purpose.FULL, rows(3, 1, 2), 5)
    wide = exponentials(seeds, Purpose.FULL, rows(3, 1, 2), 50)
    assert torch.equal(wide[..., :5], narrow)


def test_seeds_and_purposes_differ() -> None:
    seeds = torch.tensor([1, 2, 1 << 32, 1 + (1 << 32)])
    drawn = [exponentials(seeds, purpose, rows(0, 8, 4), 4).flatten(1) for purpose in Purpose]
    every = torch.cat(drawn)
    assert len(torch.unique(every, dim=0)) == len(seeds) * len(Purpose)
    assert torch.unique(every).numel() > 0.99 * every.numel()


def test_normals_are_normal() -> None:
    drawn = normals(torch.tensor([11]), Purpose.SOURCE, rows(0, 20_000), 10).flatten()
    assert abs(float(drawn.mean())) < 0.01
    assert abs(float(drawn.std()) - 1) < 0.01
    assert abs(float((drawn.abs() < 1).float().mean()) - math.erf(math.sqrt(0.5))) < 0.005


def test_exponentials_are_exponential_and_never_zero() -> None:
    drawn = exponentials(torch.tensor([12]), Purpose.FULL, rows(0, 4), 50_000).flatten()
    assert float(drawn.min()) > 0
    assert abs(float(drawn.mean()) - 1) < 0.02
    assert abs(float((drawn > math.log(2)).float().mean()) - 0.5) < 0.01
