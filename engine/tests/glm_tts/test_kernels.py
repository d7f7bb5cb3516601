"""The Triton kernels, through Triton's interpreter, against the plain path.

TRITON_INTERPRET=1 python -m pytest engine/tests/glm_tts/test_kernels.py
"""

# ruff: noqa: E402

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs Triton's interpreter: TRITON_INTERPRET=1", allow_module_level=True)
interpreter = pytest.importorskip("triton.runtime.interpreter")

from engine.glm_tts.cuda_decode import CudaDecode
from engine.glm_tts.decoder import DecodeParams, Decoder
from engine.glm_tts.dims import LlmDims, TokenIds
from engine.glm_tts.golden_weights import gw, made_up_weights
from engine.glm_tts.llm import Llm
from engine.glm_tts.philox import Purpose, exponentials
from engine.glm_tts.plain_decode import PlainDecode
from engine.glm_tts.quantized import Quantized
from engine.glm_tts.sampling import K_MAX, Draws, SamplerParams, sample
from engine.glm_tts.slot_states import SlotStates
from engine.glm_tts.tensors import llm_tensors
from engine.glm_tts.tuning import Parts, StepTile, Tiles, Tuning

DIMS = LlmDims(
    hidden=64, layers=2, heads=6, kv_heads=2, head_dim=32, intermediate=96, vocab=320,
    max_positions=512,
)  # fmt: skip
IDS = TokenIds(pad=146, end=153, begin=160, first_audio=180, audio_tokens=120)
WEIGHTS = made_up_weights(
    llm_tensors(DIMS),
    lambda name, shape, scale, shift: torch.from_numpy(gw(f"kernels.{name}", shape, scale, shift)),
)
TILE = StepTile(rows=16, columns=16, depth=16, warps=4, stages=2)
APART = StepTile(rows=32, columns=32, depth=8, warps=4, stages=2, is_apart=True)
TUNING = Tuning(
    parts=Parts(qkv=4, attention_out=2, gate_up=1, down=2),
    tiles=(
        Tiles(
            most=2, spread=4, qkv=TILE, attention_out=TILE, gate_up=TILE, down=TILE, head=TILE
        ),
        Tiles(
            most=64, spread=2, qkv=APART, attention_out=APART, gate_up=APART, down=APART,
            head=APART,
        ),
    ),
    batches=(1, 2),
    split=16,
    chunk=64,
)  # fmt: skip
CONTEXT = 64
PROMPTS = ([3, 1, 4, 160], [9, 2, 6, 160, *range(181, 211)], [5, 3, 5, 8, 9, 7, 9, 3, 2, 160] * 2)
TOKENS = 8
JOB = DecodeParams(seed=1, min_tokens=TOKENS, max_tokens=TOKENS)
JOBS = (
    JOB,
    replace(JOB, seed=-2, sampler="topk", temperature=0.7),
    replace(JOB, seed=3 << 40, top_k=5, window=4, tau=0.5, min_tokens=2),
)


def decoder(slots: int, *, is_fast: bool) -> Decoder:
    llm = Llm(DIMS, IDS, dict(WEIGHTS))
    dec = Decoder(llm, slots=slots, context_tokens=CONTEXT, device="cpu")
    if is_fast:
        dec._decode = CudaDecode(llm, dec._states, CONTEXT, TUNING)
    return dec


def fast(dec: Decoder) -> CudaDecode:
    assert isinstance(dec._decode, CudaDecode)
    return dec._decode


def speak(dec: Decoder, prompt: Sequence[int], job: DecodeParams, steps: int) -> list[int]:
    slot = dec.admit(prompt, job)
    tokens = [int(dec.prefill([slot])), *dec.step([slot], steps - 1)[:, 0].tolist()]
    dec.release(slot)
    return tokens


@pytest.fixture(scope="module", autouse=True)
def _bounds_of_loops() -> Iterator[None]:
    """NumPy 2.4 makes no number of an array of one, as Triton 3.6's interpreter wants it to."""
    with pytest.MonkeyPatch.context() as patch:
        original = interpreter._patch_lang_tensor

        def patched(tensor: type, scope: Any) -> None:
            original(tensor, scope)
            scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

        patch.setattr(interpreter, "_patch_lang_tensor", patched)
        yield


@pytest.fixture(scope="module")
def alone() -> list[list[int]]:
    plain = decoder(1, is_fast=False)
    return [speak(plain, *pair, TOKENS) for pair in zip(PROMPTS, JOBS, strict=True)]


def test_scores_are_the_plain_paths() -> None:
    dec = decoder(3, is_fast=True)
    plain = Llm(DIMS, IDS, WEIGHTS)
    states = SlotStates.reserve(3, torch.device("cpu"))
    other = PlainDecode(plain, states, CONTEXT)
    slots = [dec.admit(prompt, job) for prompt, job in zip(PROMPTS, JOBS, strict=True)]
    dec.prefill(slots)
    for prompt, slot in zip(PROMPTS, slots, strict=True):
        ids, index = torch.tensor([prompt]), torch.tensor([slot])
        expected = plain.prefill(ids, torch.tensor([len(prompt)]), index, other.cache)
        torch.testing.assert_close(
            fast(dec)._sampler.scores[slots.index(slot), None, :121], expected
        )
    for _ in range(3):
        last = plain.column_ids[dec._states.history[slots, 0]]
        dec.step(slots)
        expected = plain.decode(last, torch.tensor(slots), other.cache)
        torch.testing.assert_close(
            fast(dec)._sampler.scores[:3, :121], expected, atol=2e-5, rtol=1e-5
        )


def test_jobs_alone_draw_the_plain_paths_tokens(alone: list[list[int]]) -> None:
    dec = decoder(1, is_fast=True)
    for prompt, job, tokens in zip(PROMPTS, JOBS, alone, strict=True):
        assert speak(dec, prompt, job, TOKENS) == tokens


def test_jobs_that_join_and_leave_draw_the_plain_paths_tokens(alone: list[list[int]]) -> None:
    dec = decoder(3, is_fast=True)
    a, b, c = (dec.admit(prompt, job) for prompt, job in zip(PROMPTS, JOBS, strict=True))
    tokens: dict[int, list[int]] = {slot: [] for slot in (a, b, c)}

    def hear(slots: list[int], columns: Tensor) -> None:
        for slot, column in zip(slots, columns.T.tolist(), strict=True):
            tokens[slot] += column

    hear([a, b], dec.prefill([a, b])[None])
    hear([b, a], dec.step([b, a], 3))
    hear([c], dec.prefill([c])[None])
    hear([a, c, b], dec.step([a, c, b], 2))
    dec.release(a)
    hear([c, b], dec.step([c, b], 2))
    hear([c], dec.step([c], 1))
    for slot, expected in zip((a, b, c), alone, strict=True):
        assert tokens[slot] == expected[: len(tokens[slot])]
    dec.release(b)
    dec.release(c)
    dec.forget_slots()
    assert speak(dec, PROMPTS[2], JOBS[2], 3) == alone[2][:3]


@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("is_apart", [False, True])
@pytest.mark.parametrize("is_int8", [False, True])
def test_products_are_the_plain_ones_however_cut(parts: int, is_apart: bool, is_int8: bool) -> None:
    decode = fast(decoder(20, is_fast=True))
    tile = StepTile(rows=16, columns=16, depth=8, warps=4, stages=2, is_apart=is_apart)
    layer = decode._llm.layers[0]
    matrices = (layer.qkv, layer.attention_out, layer.gate_up, layer.down)
    given = [Quantized.of(m) if is_int8 else m for m in matrices if isinstance(m, Tensor)]
    qkv, attention_out, gate_up, down = (
        m.dequantized(torch.float32) if isinstance(m, Quantized) else m for m in given
    )
    decode._reserve(20, CONTEXT)
    decode._partials = torch.full((4, *decode._qkv.shape), torch.nan)
    for name, values in (("half", decode._half), ("seen", decode._seen), ("x", decode._x)):
        values[:] = torch.from_numpy(gw(f"kernels.{name}", tuple(values.shape), 1))
    squares = decode._squares
    squares[0, :20] = (decode._half.square().sum(1).double() * 2**28).long()
    normed = torch.nn.functional.rms_norm(decode._half, (64,), None, DIMS.norm_eps)
    for rows in (3, 20):
        decode._norm_linear(rows, tile, parts, 0, given[0], decode._qkv)
        torch.testing.assert_close(decode._qkv[:rows], normed[:rows] @ qkv.T)
        decode._norm_swiglu(rows, tile, parts, 0, given[2])
        gate, up = (normed[:rows] @ gate_up.T).chunk(2, 1)
        inner = torch.nn.functional.silu(gate) * up
        torch.testing.assert_close(decode._inner[:rows], inner)
    for inputs, matrix, exact in (
        (decode._seen, given[1], attention_out),
        (decode._inner, given[3], down),
    ):
        x = decode._x + inputs @ exact.T
        squares[1] = 0
        decode._linear_add(20, tile, parts, inputs, matrix, 1)
        torch.testing.assert_close(decode._x, x)
        torch.testing.assert_close(decode._half, x, atol=1e-5, rtol=1e-5)
        expected = (x.double().square().sum(1) * 2**28).float()
        torch.testing.assert_close(squares[1, :20].float(), expected)
        decode._half[:] = decode._x
    assert not decode._arrived.any()


def test_slot_stepped_beyond_its_room_changes_no_other(alone: list[list[int]]) -> None:
    dec = decoder(2, is_fast=True)
    full = dec.admit([160] * 54, JOB)
    dec.prefill([full])
    dec.step([full], 9)
    other = dec.admit(PROMPTS[0], JOBS[0])
    first = int(dec.prefill([other]))
    assert [first, *dec.step([full, other], 4)[:, 1].tolist()] == alone[0][:5]


def drawn(scores: Tensor, jobs: Sequence[DecodeParams], steps: int, past: Tensor) -> Tensor:
    """By the kernels: [B]; a job has drawn `steps` tokens before."""
    dec = decoder(len(jobs), is_fast=True)
    decode = fast(dec)
    for row, job in enumerate(jobs):
        slot = dec.admit([160], job)
        decode._slots[row] = slot
        dec._states.drawn[slot] = steps
        dec._states.history[slot] = past[row]
    decode._sampler.scores[: len(jobs), :121] = scores
    decode._sampler.launch(len(jobs), decode._slots)
    return decode._sampler.tokens[: len(jobs)]


def expected(scores: Tensor, jobs: Sequence[DecodeParams], steps: int, past: Tensor) -> Tensor:
    """By `sampling`."""
    seeds, rows = torch.tensor([job.seed for job in jobs]), torch.full((len(jobs), 1), steps)
    fields = (
        [job.temperature for job in jobs],
        [job.top_p for job in jobs],
        [job.top_k for job in jobs],
        [job.window for job in jobs],
        [job.tau for job in jobs],
        [job.sampler == "ras" for job in jobs],
    )
    return sample(
        scores,
        SamplerParams(*(torch.tensor(field) for field in fields)),
        past,
        torch.tensor([steps < job.min_tokens for job in jobs]),
        IDS.audio_tokens,
        Draws(
            exponentials(seeds, Purpose.NUCLEUS, rows, K_MAX)[:, 0],
            exponentials(seeds, Purpose.FULL, rows, 121)[:, 0],
        ),
    )


def a_job(number: int) -> DecodeParams:
    """Of every kind: by the number's digits."""
    return DecodeParams(
        seed=number * 7919 - 50_000,
        temperature=(0.3, 1.0, 1.7)[number % 3],
        top_p=(0.8, 0.1, 0.999, 1.5)[number % 4],
        top_k=(25, 1, 64, 2, 5)[number % 5],
        window=(10, 0, 32)[number // 2 % 3],
        tau=(0.1, 0.5)[number // 3 % 2],
        sampler="topk" if number % 7 < 3 else "ras",
        min_tokens=3 if number % 2 else 100,
        max_tokens=4,
    )


@pytest.mark.parametrize("kind", ["spread", "ties", "end", "flat", "banned"])
def test_sampler_draws_what_the_plain_one_draws(kind: str) -> None:
    rows = 15
    scores = torch.from_numpy(gw(f"kernels.scores.{kind}", (rows, 121), 3))
    past = torch.from_numpy(gw(f"kernels.past.{kind}", (rows, 32), 12)).abs().long() % 121
    match kind:
        case "ties":
            scores = scores.round()
        case "end":
            scores[:, 120] = 8
        case "flat":
            scores[:] = -1.5
        case "banned":
            scores[:, 3:] = -torch.inf
            past %= 3
    jobs = [a_job(number) for number in range(rows)]
    for steps in (0, 50):
        assert torch.equal(drawn(scores, jobs, steps, past), expected(scores, jobs, steps, past))
