"""The kernels that read prompts, through Triton's interpreter, against the plain path.

TRITON_INTERPRET=1 python -m pytest engine/tests/glm_tts/test_prefill_kernels.py
"""

from __future__ import annotations

import os

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  its name everywhere
from torch import Tensor

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs Triton's interpreter: TRITON_INTERPRET=1", allow_module_level=True)
pytest.importorskip("triton.runtime.interpreter")

from engine.glm_tts.cuda_prefill import CudaPrefill, Part, PrefillTiles, PrefillTuning, cut
from engine.glm_tts.dims import LlmDims, TokenIds
from engine.glm_tts.golden_weights import gw, made_up_weights
from engine.glm_tts.kv_cache import KvCache
from engine.glm_tts.llm import Llm
from engine.glm_tts.quantized import Quantized
from engine.glm_tts.slot_memory import SlotMemory
from engine.glm_tts.tensors import llm_tensors
from engine.glm_tts.tuning import Tile
from engine.tests.glm_tts.test_kernels import _bounds_of_loops  # noqa: F401  used by all

DIMS = LlmDims(
    hidden=64, layers=2, heads=6, kv_heads=2, head_dim=32, intermediate=96, vocab=320,
    max_positions=512,
)  # fmt: skip
IDS = TokenIds(pad=146, end=153, begin=160, first_audio=180, audio_tokens=120)
WEIGHTS = made_up_weights(
    llm_tensors(DIMS),
    lambda name, shape, scale, shift: torch.from_numpy(gw(f"prefill.{name}", shape, scale, shift)),
)
NARROW = Tile(columns=16, depth=32, warps=4, stages=2)
WIDE = Tile(columns=64, depth=16, warps=4, stages=2)
TILES = (
    PrefillTiles(most=32, rows=16, qkv=NARROW, attention_out=NARROW, gate_up=NARROW, down=NARROW),
    PrefillTiles(most=64, rows=32, qkv=WIDE, attention_out=WIDE, gate_up=WIDE, down=WIDE),
)
MATRICES = ("qkv", "attention_out", "gate_up", "down")
SLOTS = 4
CONTEXT = 80
COLUMNS = IDS.audio_tokens + 1
UNTOUCHED = 7.0


def prompt(length: int) -> Tensor:
    return torch.tensor([(length * 37 + place * 11) % 140 for place in range(length)])


def folded() -> Llm:
    llm = Llm(DIMS, IDS, dict(WEIGHTS))
    llm.fold_norms()
    return llm


def read(
    lengths: list[int], slots: list[int], most: int, llm: Llm | None = None
) -> tuple[Tensor, SlotMemory]:
    """Scores and memory, by passes of up to `most` rows."""
    llm = llm or folded()
    memory = SlotMemory(DIMS, SLOTS + 1, CONTEXT, torch.device("cpu"), torch.float32)
    for slot in range(SLOTS):
        memory.fill(slot)
        memory._memory[slot].fill_(UNTOUCHED)
    scores = torch.full((SLOTS, 128), UNTOUCHED)
    tuning = PrefillTuning(
        passes=(32, 64)[: most // 32],
        tiles=TILES,
        head=NARROW,
        attention=Tile(columns=16, depth=16, warps=4, stages=2),
    )
    head = F.pad(llm.head, (0, 0, 0, 128 - COLUMNS))
    prefill = CudaPrefill(llm, head, memory, scores, tuning)
    prefill.read([prompt(length) for length in lengths], slots)
    return scores, memory


def expected(length: int, llm: Llm | None = None) -> tuple[Tensor, Tensor]:
    """Scores [V], and keys and values [layers, 2, kv_heads, T, head_dim], by the plain path."""
    llm = llm or Llm(DIMS, IDS, dict(WEIGHTS))
    cache = KvCache(DIMS, 1, CONTEXT, "cpu", torch.float32)
    logits = llm.prefill(
        prompt(length)[None], torch.tensor([length]), torch.tensor([0]), cache
    )  # fmt: skip
    return logits[0], torch.stack((cache.k[:, 0], cache.v[:, 0]), 1)[..., :length, :]


@pytest.mark.parametrize(
    ("lengths", "most"),
    [
        ([1], 32),
        ([33], 64),
        ([5, 30, 1, 17], 64),  # one pass
        ([5, 30, 1, 17], 32),  # the second prompt is cut in two
        ([20, 75], 32),  # the last goes on through four passes
    ],
)
def test_prompts_are_read_as_by_the_plain_path(lengths: list[int], most: int) -> None:
    slots = [2, 0, 3, 1][: len(lengths)]
    scores, memory = read(lengths, slots, most)
    for row, (length, slot) in enumerate(zip(lengths, slots, strict=True)):
        logits, kept = expected(length)
        torch.testing.assert_close(scores[row, :COLUMNS], logits, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(
            memory._memory[slot][..., :length, :], kept, atol=2e-5, rtol=1e-5
        )


def test_quantised_layers_are_read_as_what_they_stand_for() -> None:
    fast, plain = folded(), folded()
    for index, layer in enumerate(fast.layers):
        rounded = {name: Quantized.of(getattr(layer, name)) for name in MATRICES}
        # By names and types that the layers may not have yet.
        fast.layers[index] = layer._replace(**rounded)  # type: ignore[arg-type]
        exact = {name: each.dequantized(torch.float32) for name, each in rounded.items()}
        plain.layers[index] = layer._replace(**exact)
    scores, memory = read([33], [1], 64, fast)
    logits, kept = expected(33, plain)
    torch.testing.assert_close(scores[0, :COLUMNS], logits, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(memory._memory[1][..., :33, :], kept, atol=2e-5, rtol=1e-5)


def test_nothing_beyond_the_prompts_is_touched() -> None:
    scores, memory = read([5, 9], [2, 0], 32)
    assert (scores[2:] == UNTOUCHED).all()
    assert (memory._memory[2][..., 5:, :] == UNTOUCHED).all()
    assert (memory._memory[0][..., 9:, :] == UNTOUCHED).all()
    for slot in (1, 3):
        assert (memory._memory[slot] == UNTOUCHED).all()


def test_passes_are_full_and_keep_the_order() -> None:
    assert list(cut([3, 12, 5], 8)) == [
        [Part(0, 0, 3), Part(1, 0, 5)],
        [Part(1, 5, 7), Part(2, 0, 1)],
        [Part(2, 1, 4)],
    ]
    assert list(cut([8], 8)) == [[Part(0, 0, 8)]]
