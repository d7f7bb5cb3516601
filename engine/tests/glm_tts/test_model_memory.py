"""What a model has on its device leaves and comes back to where it was."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from msgspec import Struct
from torch import Tensor

from engine.glm_tts.lanes import Lane
from engine.glm_tts.model_memory import ModelMemory, storages_of, tensors_of
from engine.tests.glm_tts.test_pipeline import SHORT, engine, recording, request, spoken

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


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


def test_every_storage_below_an_object_is_found_once() -> None:
    model = parts()
    assert len(list(tensors_of(model))) == 3 + 1 + 1 + 1 + 2
    sizes = sorted(storage.nbytes() for storage in storages_of(model, CPU))
    assert sizes == sorted(4 * count for count in (6 * 4, 3, 2 * 3, 2 * 2, 2))


def test_a_host_has_nowhere_to_go() -> None:
    made = engine()
    features = made.prepare(recording())
    before = spoken(made, request(SHORT), features)
    made.offload()
    made.restore()
    assert made.memory() is None
    np.testing.assert_array_equal(spoken(made, request(SHORT), features), before)


def gpu_memory() -> tuple[ModelMemory, dict[str, Tensor], Tensor]:
    """A model, part of which is a visitor, and a sum of its weights that is recorded."""
    device = torch.device("cuda:0")
    model = {
        "weights": torch.randint(1000, (64 << 20,), dtype=torch.int32, device=device),
        "seldom": torch.ones(64 << 20, device=device),
    }
    memory = ModelMemory(device)
    memory.adopt(model, visitor=[model["seldom"]])
    return memory, model, model["weights"]


@needs_gpu
@pytest.mark.gpu
def test_the_devices_memory_is_really_freed_and_what_was_recorded_still_runs() -> None:
    memory, model, weights = gpu_memory()
    address, expected = weights.data_ptr(), weights.double().sum().item()
    room = memory.room(Lane(weights.device))
    with room.tensors():
        total = torch.zeros(1, dtype=torch.float64, device=weights.device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=room.pool):
        total.copy_(weights.double().sum())
    resident = memory.memory()
    for _ in range(2):
        memory.offload()
        away = memory.memory()
        assert resident is not None
        assert away is not None
        # Weights, and the numbers that the graph has inside.
        assert away.free_bytes - resident.free_bytes >= 500 << 20
        assert resident.used_bytes - away.used_bytes >= 500 << 20
        torch.zeros(64 << 20, device=weights.device).fill_(7.0)
        memory.restore()
        total.zero_()
        graph.replay()
        assert total.item() == expected
    assert model["weights"].data_ptr() == address


@needs_gpu
@pytest.mark.gpu
def test_a_visitor_has_memory_during_its_visit_only() -> None:
    memory, model, _ = gpu_memory()
    before = memory.memory()
    with memory.visit():
        assert model["seldom"].sum().item() == 64 << 20
        during = memory.memory()
    after = memory.memory()
    assert before is not None
    assert during is not None
    assert after is not None
    assert during.used_bytes - before.used_bytes >= 256 << 20
    assert after.used_bytes - before.used_bytes < 16 << 20
    assert before.free_bytes - after.free_bytes < 16 << 20
