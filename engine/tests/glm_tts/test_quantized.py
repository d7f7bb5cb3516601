from __future__ import annotations

import torch

from engine.glm_tts.dims import TINY
from engine.glm_tts.kv_cache import KvCache
from engine.glm_tts.llm import Llm
from engine.glm_tts.quantized import Quantized, linear
from engine.glm_tts.random_weights import random_weights
from engine.glm_tts.tensors import llm_tensors


def test_each_number_is_within_half_a_step_of_its_row() -> None:
    matrix = torch.randn(5, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(
        -20, 20, 5
    ).unsqueeze(1)
    rounded = Quantized.of(matrix)
    assert rounded.weight.dtype == torch.int8
    assert int(rounded.weight.abs().max()) == 127
    error = (rounded.dequantized(torch.float32) - matrix).abs().amax(1)
    assert (error <= rounded.scale * 0.5001).all()


def test_row_of_zeros_stays_one() -> None:
    assert not Quantized.of(torch.zeros(2, 8)).dequantized(torch.float32).any()


def test_product_is_that_of_the_rounded_numbers() -> None:
    generator = torch.Generator().manual_seed(1)
    x, matrix = (torch.randn(3, 16, generator=generator) for _ in range(2))
    rounded = Quantized.of(matrix)
    exact = x @ rounded.dequantized(torch.float32).T
    assert torch.equal(linear(x, rounded), exact)


def logits(llm: Llm) -> torch.Tensor:
    cache = KvCache(TINY.llm, 1, 16, "cpu", llm.dtype)
    zero = torch.tensor([0])
    return llm.prefill(torch.tensor([[5, 9, 258]]), torch.tensor([3]), zero, cache)


def test_quantized_model_is_near_the_full_one() -> None:
    device = torch.device("cpu")
    weights = random_weights("llm", llm_tensors(TINY.llm), 1, device, torch.float32)
    expected = logits(Llm(TINY.llm, TINY.ids, dict(weights)))
    llm = Llm(TINY.llm, TINY.ids, dict(weights))
    llm.quantize()
    error = (logits(llm) - expected).norm() / expected.norm()
    assert 1e-4 < error < 0.05
    # Those that read a norm's weight find it folded once, however often they ask.
    found = logits(llm)
    llm.fold_norms()
    torch.testing.assert_close(logits(llm), found)
