"""Storages leave and come back beneath tensors that stay what they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from msgspec import Struct
from torch import Tensor

from engine.glm_tts.offload import Offloader, tensors_of
from engine.tests.glm_tts.test_pipeline import SHORT, engine, recording, request, spoken

CPU = torch.device("cpu")


class Pair(NamedTuple):
    weight: Tensor
    bias: Tensor | None


class Layer:
    def __init__(self) -> None:
        self.fused = torch.randn(6, 4)
        # Views, a second name, and a transposed one: one storage.
        self.parts = (self.fused[:2], self.fused[2:])
        self.same = {"again": [self.fused]}
        self.turned = self.fused.t()


class Cache:
    def __init__(self) -> None:
        self.k = torch.randn(2, 3)


class Parts(Struct, frozen=True):
    layer: Layer
    pair: Pair
    cache: Cache
    module: torch.nn.Linear
    name: str = "parts"


def parts() -> Parts:
    return Parts(Layer(), Pair(torch.randn(3), None), Cache(), torch.nn.Linear(2, 2))


def held_bytes(model: object) -> int:
    """Of storages, each once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors_of(model)}
    return sum(storage.nbytes() for storage in storages.values())


def test_everything_is_gone_and_comes_back_as_it_was() -> None:
    model = parts()
    before = [tensor.detach().clone() for tensor in tensors_of(model)]
    assert len(before) == 3 + 1 + 1 + 1 + 2
    identities = [id(tensor) for tensor in tensors_of(model)]
    offloader = Offloader(model, CPU)
    for _ in range(2):
        offloader.offload()
        assert held_bytes(model) == 0
        offloader.restore()
        assert all(map(torch.equal, tensors_of(model), before))
    assert [id(tensor) for tensor in tensors_of(model)] == identities


def test_views_and_second_names_still_share_their_storage() -> None:
    model = parts()
    offloader = Offloader(model, CPU)
    offloader.offload()
    offloader.restore()
    layer = model.layer
    layer.fused[0, 1] = 7.0
    assert layer.parts[0][0, 1] == layer.turned[1, 0] == layer.same["again"][0][0, 1] == 7.0
    assert held_bytes(layer) == layer.fused.nbytes


def test_scratch_is_not_copied_and_comes_back_as_zeros() -> None:
    model = parts()
    offloader = Offloader(model, CPU, scratch=(model.cache,))
    offloader.offload()
    copied = held_bytes(offloader._host)
    assert copied < held_bytes(parts()) + 256 * 5
    assert len([moved for moved in offloader._moved if moved.host is None]) == 1
    offloader.restore()
    assert torch.equal(model.cache.k, torch.zeros(2, 3))


def test_what_knows_addresses_is_dropped_before_and_made_again_after() -> None:
    model, seen = parts(), list[tuple[str, int]]()

    def note(name: str) -> None:
        seen.append((name, held_bytes(model)))

    offloader = Offloader(
        model, CPU, forget=lambda: note("forget"), recapture=lambda: note("recapture")
    )
    size = held_bytes(model)
    offloader.offload()
    offloader.restore()
    assert seen == [("forget", size), ("recapture", size)]


def test_tensors_made_in_inference_mode_move_too() -> None:
    with torch.inference_mode():
        model = {"made": torch.arange(10.0)}
    offloader = Offloader(model, CPU)
    offloader.offload()
    assert held_bytes(model) == 0
    offloader.restore()
    assert torch.equal(model["made"], torch.arange(10.0))


def test_a_whole_model_speaks_the_same_after_it_has_been_away() -> None:
    made = engine()
    features = made.prepare(recording())
    before = spoken(made, request(SHORT), features)
    # The tokeniser's and the front end's objects hold no tensors.
    total = held_bytes(made.model)
    assert total > 1 << 16
    offloader = Offloader(made.model, CPU)
    offloader.offload()
    assert held_bytes(made.model) < total // 50
    offloader.restore()
    np.testing.assert_array_equal(spoken(made, request(SHORT), features), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_devices_memory_is_really_freed() -> None:
    device = torch.device("cuda:0")
    model = {"weights": torch.randn(64 << 20, device=device), "cache": torch.ones(9, device=device)}
    before = model["weights"].sum().item()
    offloader = Offloader(model, device, scratch=(model["cache"],))
    resident = offloader.memory()
    offloader.offload()
    away = offloader.memory()
    assert resident is not None
    assert away is not None
    assert resident.used_bytes - away.used_bytes >= 256 << 20
    assert away.free_bytes - resident.free_bytes >= 250 << 20
    offloader.restore()
    assert model["weights"].sum().item() == before
    assert not model["cache"].any()
