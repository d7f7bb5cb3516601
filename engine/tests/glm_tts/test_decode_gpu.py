"""The fast decode on CUDA: against the plain path, and against itself in other company."""

# ruff: noqa: E402

from __future__ import annotations

from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
pytest.importorskip("triton")

from engine.glm_tts.cuda_decode import CudaDecode
from engine.glm_tts.decoder import DecodeParams, Decoder
from engine.glm_tts.dims import LlmDims, TokenIds
from engine.glm_tts.golden_weights import made_up_weights
from engine.glm_tts.kv_cache import KvCache
from engine.glm_tts.llm import Llm
from engine.glm_tts.model_memory import GraphRoom
from engine.glm_tts.philox import Purpose, exponentials
from engine.glm_tts.quantized import Quantized
from engine.glm_tts.sampling import K_MAX, Draws, SamplerParams, sample
from engine.glm_tts.tensors import Weights, llm_tensors

DIMS = LlmDims(layers=3, vocab=5120)
IDS = TokenIds(pad=146, end=153, begin=160, first_audio=180, audio_tokens=4800)
SLOTS = 64
TOKENS = 20
JOB = DecodeParams(seed=5, min_tokens=TOKENS, max_tokens=400)


@pytest.fixture(scope="module")
def weights() -> Weights:
    """The same numbers for all: bfloat16."""
    generator = torch.Generator("cuda").manual_seed(0)

    def draw(name: str, shape: tuple[int, ...], scale: float, shift: float) -> Tensor:
        numbers = torch.randn(shape, generator=generator, device="cuda")
        return (numbers * scale + shift).bfloat16()

    made = made_up_weights(llm_tensors(DIMS), draw)
    # It is the head too: as it comes, each token would predict itself.
    made["model.embed_tokens.weight"] *= 0.04
    return made


@pytest.fixture(scope="module")
def dec(weights: Weights) -> Decoder:
    llm = Llm(DIMS, IDS, dict(weights))
    return Decoder(llm, slots=SLOTS, context_tokens=1024, device="cuda")


def fast(dec: Decoder) -> CudaDecode:
    assert isinstance(dec._decode, CudaDecode)
    return dec._decode


def prompt(number: int) -> list[int]:
    return [(number * 37 + place * 11) % 140 for place in range(20 + 61 * number % 500)] + [160]


def job(number: int) -> DecodeParams:
    return replace(JOB, seed=number, sampler="topk" if number % 3 == 2 else "ras")


def speak(dec: Decoder, numbers: list[int]) -> tuple[Tensor, Tensor]:
    """Tokens [T, B], and the scores [B, V] that the last were drawn from."""
    slots = [dec.admit(prompt(number), job(number)) for number in numbers]
    tokens = torch.cat((dec.prefill(slots)[None], dec.step(slots, TOKENS - 1)))
    scores = fast(dec)._sampler.scores[: len(slots)].clone()
    for slot in slots:
        dec.release(slot)
    return tokens, scores


def test_scores_are_float32s_to_bfloat16s_rounding(dec: Decoder, weights: Weights) -> None:
    exact = Llm(DIMS, IDS, {name: weight.float() for name, weight in weights.items()})
    cache = KvCache(DIMS, 1, 1024, "cuda", torch.float32)
    slots = torch.tensor([0], device="cuda")
    for number in (0, 3, 7):
        tokens, scores = speak(dec, [number])
        said = exact.column_ids[tokens[:-1, 0]]
        ids = torch.cat((torch.tensor(prompt(number), device="cuda"), said))[None]
        lengths = torch.tensor([ids.shape[1]], device="cuda")
        expected = exact.prefill(ids, lengths, slots, cache)
        error = (scores[:, : dec.end + 1] - expected).norm() / expected.norm()
        assert error < 0.02


@pytest.mark.parametrize("size", [2, 3, 8, 16, 17, 24, 32, 33, 48, 64])
def test_batch_gives_each_job_the_bits_that_it_has_alone(dec: Decoder, size: int) -> None:
    tokens, scores = speak(dec, [*range(size)])
    for row in {0, 1, size // 2, size - 1}:
        tokens_alone, scores_alone = speak(dec, [row])
        assert torch.equal(tokens[:, row], tokens_alone[:, 0])
        assert torch.equal(scores[row], scores_alone[0])


def with_layers(weights: Weights, rounded: str | None, numbers: list[int]) -> Tensor:
    """Scores [B, V] after steps with layers of int8, or of what int8 stands for."""
    llm = Llm(DIMS, IDS, dict(weights))
    dec = Decoder(llm, slots=SLOTS, context_tokens=1024, device="cuda")
    slots = [dec.admit(prompt(number), job(number)) for number in numbers]
    dec.prefill(slots)
    for index, layer in enumerate(llm.layers):
        matrices: dict[str, Any] = {}
        for name in ("qkv", "attention_out", "gate_up", "down"):
            matrix = Quantized.of(getattr(layer, name))
            matrices[name] = matrix if rounded == "int8" else matrix.dequantized(torch.bfloat16)
        llm.layers[index] = layer._replace(**matrices)
    # One: after that the tokens drawn may differ, and so all that follows.
    dec.step(slots, 1)
    return fast(dec)._sampler.scores[: len(slots)].clone()


def test_int8_gives_the_scores_of_the_numbers_that_it_stands_for(weights: Weights) -> None:
    scores = with_layers(weights, "int8", [0, 3, 7])
    expected = with_layers(weights, None, [0, 3, 7])
    assert (scores - expected).norm() / expected.norm() < 0.02


def test_batch_of_int8_gives_each_job_the_bits_that_it_has_alone(weights: Weights) -> None:
    alone = with_layers(weights, "int8", [3])
    for size in (16, 32, 64):
        among = with_layers(weights, "int8", [3, *range(100, 99 + size)])
        assert torch.equal(among[0], alone[0])


def test_steps_at_once_are_the_steps_one_by_one(dec: Decoder) -> None:
    expected, _ = speak(dec, [4, 9, 2])
    slots = [dec.admit(prompt(number), job(number)) for number in (4, 9, 2)]
    parts = [dec.prefill(slots)[None], *(dec.step(slots) for _ in range(TOKENS - 1))]
    for slot in slots:
        dec.release(slot)
    assert torch.equal(torch.cat(parts), expected)


def test_what_is_recorded_gives_what_is_launched(dec: Decoder) -> None:
    tokens, scores = speak(dec, [4, 9, 2])
    dec.forget_slots()
    dec.record(GraphRoom())
    again, scores_again = speak(dec, [4, 9, 2])
    assert torch.equal(tokens, again)
    assert torch.equal(scores, scores_again)


def test_sampler_draws_what_the_plain_one_draws(dec: Decoder) -> None:
    generator = torch.Generator("cuda").manual_seed(1)
    columns = dec.end + 1
    scores = 3 * torch.randn(SLOTS, columns, generator=generator, device="cuda")
    scores[: SLOTS // 2] = (scores[: SLOTS // 2] * 4).round() / 4
    slots = [dec.admit([160], job(number)) for number in range(SLOTS)]
    decode, states = fast(dec), dec._states
    decode._slots[:] = torch.tensor(slots)
    decode._sampler.scores[:, :columns] = scores
    drawn = []
    expected = []
    for step in range(30):
        history = states.history[slots].clone()
        rows = torch.full((SLOTS, 1), step, device="cuda")
        draws = Draws(
            exponentials(states.seeds[slots], Purpose.NUCLEUS, rows, K_MAX)[:, 0],
            exponentials(states.seeds[slots], Purpose.FULL, rows, columns)[:, 0],
        )
        params = SamplerParams(*(values[slots] for values in states.params))
        ban_end = states.drawn[slots] < states.min_tokens[slots]
        expected.append(sample(scores, params, history, ban_end, dec.end, draws))
        decode._sampler.launch(SLOTS, decode._slots)
        drawn.append(decode._sampler.tokens.clone())
    for slot in slots:
        dec.release(slot)
    assert torch.equal(torch.stack(drawn), torch.stack(expected))
