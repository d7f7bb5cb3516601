"""Reading prompts on CUDA: against the plain path, and against itself in other company."""

# ruff: noqa: E402

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
pytest.importorskip("triton")

from engine.glm_tts.cuda_decode import CudaDecode
from engine.glm_tts.dims import LlmDims, TokenIds
from engine.glm_tts.golden_weights import made_up_weights
from engine.glm_tts.kv_cache import KvCache
from engine.glm_tts.llm import Llm
from engine.glm_tts.model_memory import GraphRoom
from engine.glm_tts.slot_states import SlotStates
from engine.glm_tts.tensors import Weights, llm_tensors

DIMS = LlmDims(layers=3, vocab=5120)
IDS = TokenIds(pad=146, end=153, begin=160, first_audio=180, audio_tokens=4800)
COLUMNS = IDS.audio_tokens + 1
SLOTS = 32
CONTEXT = 2048


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
def decode(weights: Weights) -> CudaDecode:
    states = SlotStates.reserve(SLOTS + 1, torch.device("cuda"))
    return CudaDecode(Llm(DIMS, IDS, dict(weights)), states, CONTEXT)


def prompt(length: int) -> Tensor:
    return torch.tensor([(length * 37 + place * 11) % 140 for place in range(length)])


@torch.inference_mode()
def read(decode: CudaDecode, lengths: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Of each prompt: the scores after it [V], and what is kept of it."""
    for slot in range(len(lengths)):
        decode.reserve(slot)
    decode.prefill([prompt(length) for length in lengths], range(len(lengths)))
    return [
        (
            decode._sampler.scores[row, :COLUMNS].clone(),
            decode.memory._memory[row][..., :length, :].clone(),
        )
        for row, length in enumerate(lengths)
    ]


@pytest.mark.parametrize("length", [1, 63, 64, 300, 700, 1500])
def test_scores_are_float32s_to_bfloat16s_rounding(
    decode: CudaDecode, weights: Weights, length: int
) -> None:
    exact = Llm(DIMS, IDS, {name: weight.float() for name, weight in weights.items()})
    cache = KvCache(DIMS, 1, CONTEXT, "cuda", torch.float32)
    ids, slots = prompt(length)[None].cuda(), torch.tensor([0], device="cuda")
    expected = exact.prefill(ids, torch.tensor([length], device="cuda"), slots, cache)[0]
    [(scores, kept)] = read(decode, [length])
    assert (scores - expected).norm() / expected.norm() < 0.02
    kept_exactly = torch.stack((cache.k[:, 0], cache.v[:, 0]), 1)[..., :length, :]
    assert (kept.float() - kept_exactly).norm() / kept_exactly.norm() < 0.02


@pytest.mark.parametrize(
    "lengths",
    [
        (40, 41, 160),  # the smallest pass
        (17, 300, 150),
        (200, 1, 300, 64, 129),  # a pass of other tiles
        (200,) * 8,
        (1000, 300, 700, 20),  # three passes that cut prompts in two
        (1500, 1100),  # longer than a pass
        tuple(range(90, 90 + 7 * SLOTS, 7)),
    ],
)
def test_prompt_gives_the_bits_that_it_gives_alone(
    decode: CudaDecode, lengths: tuple[int, ...]
) -> None:
    together = read(decode, lengths)
    for length, (scores, kept) in zip(lengths, together, strict=True):
        [(scores_alone, kept_alone)] = read(decode, [length])
        assert torch.equal(scores, scores_alone)
        assert torch.equal(kept, kept_alone)


@torch.inference_mode()
def test_prefill_waits_for_nothing(decode: CudaDecode) -> None:
    read(decode, (200, 1100))  # slots get their memory
    torch.cuda.set_sync_debug_mode("error")
    try:
        decode.prefill([prompt(200), prompt(1100)], [0, 1])
    finally:
        torch.cuda.set_sync_debug_mode("default")


@torch.inference_mode()
def test_prefill_leaves_other_slots_alone(decode: CudaDecode) -> None:
    read(decode, (50, 60, 70))
    kept = decode.memory._memory[1].clone()
    decode.prefill([prompt(300), prompt(130)], [0, 2])
    # A slot's memory is not cleared: NaN would be a fair value beyond the prompt.
    assert torch.equal(decode.memory._memory[1].view(torch.int16), kept.view(torch.int16))


def test_what_is_recorded_gives_what_is_launched(decode: CudaDecode) -> None:
    before = read(decode, (200, 900))
    decode.forget_slots()
    decode.record(GraphRoom())
    for (scores, kept), (scores_again, kept_again) in zip(
        before, read(decode, (200, 900)), strict=True
    ):
        assert torch.equal(scores, scores_again)
        assert torch.equal(kept, kept_again)
