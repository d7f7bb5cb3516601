"""The kernels by Triton's interpreter, at small sizes: TRITON_INTERPRET=1 in the environment."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from engine.glm_tts import dit
from engine.glm_tts.dims import TINY
from engine.glm_tts.flow import Flow, FlowInput
from engine.glm_tts.golden_weights import golden_weights
from engine.glm_tts.tensors import flow_tensors

pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("Triton would compile, not interpret", allow_module_level=True)

from triton.runtime import interpreter

from engine.glm_tts import flow_kernels
from engine.glm_tts.cuda_dit import _token_layer
from engine.glm_tts.cuda_flow import CudaFlow, Precision, group_by_rows
from engine.glm_tts.flow_workspace import MOST_CLIPS, Arena, Workspace

TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3}
LENGTHS = [40, 71, 130]
ROWS = 320


@pytest.fixture(autouse=True)
def numbers_as_numpy_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy 2.4 makes no int of an array of one element, as the interpreter would."""
    original = interpreter._patch_lang_tensor

    def patch(tensor: type, scope: interpreter._LangPatchScope) -> None:
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patch)


def waves(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_near(actual: Tensor, wanted: Tensor) -> None:
    atol = TOLERANCE[actual.dtype]
    torch.testing.assert_close(actual.float(), wanted.float(), atol=atol, rtol=atol)


def filled(lengths: Sequence[int], rows: int = ROWS) -> tuple[Workspace, list[slice]]:
    """A workspace with clips of these lengths, and their rows."""
    clips = [
        FlowInput(torch.arange((n + 1) // 2), waves(3, 80), waves(192), waves(n, 80, seed=n))
        for n in lengths
    ]
    arena = Arena(TINY.flow, rows, 2, torch.device("cpu"))
    work = arena.workspace(rows)
    return work, arena.give(work, clips, torch.zeros(2, 14, 128), torch.ones(2, 2))


def halves(owned: Sequence[slice], rows: int = ROWS) -> list[slice]:
    """Of both halves."""
    return [*owned, *(slice(own.start + rows, own.stop + rows) for own in owned)]


def but_for(owned: Sequence[slice], x: Tensor) -> Tensor:
    """All rows of no clip as no numbers."""
    is_own = torch.zeros(len(x), dtype=torch.bool)
    for own in owned:
        is_own[own] = True
    return torch.where(is_own[:, None], x, torch.nan)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_modulation_by_clip_as_the_plain_one(dtype: torch.dtype) -> None:
    work, owned = filled(LENGTHS)
    hidden, branch = waves(2 * ROWS, 96), waves(2 * ROWS, 96, dtype=dtype, seed=1)
    turns = waves(MOST_CLIPS + 1, 5, 96, seed=2)[:, 1:4].unbind(1)
    summed = hidden.clone()
    actual = flow_kernels.modulate(
        summed, turns[0], turns[1], (turns[2], branch), work.tables, dtype
    )
    first = flow_kernels.modulate(hidden, turns[0], turns[1], None, work.tables, dtype)
    for index, own in enumerate(halves(owned)):
        clip = index if index < len(owned) else MOST_CLIPS
        shift, scale, gate = (turn[clip] for turn in turns)
        assert_near(first[own], dit.modulate(hidden[own], shift, scale).to(dtype))
        wanted = hidden[own] + gate * branch[own]
        assert_near(summed[own], wanted)
        assert_near(actual[own], dit.modulate(wanted, shift, scale).to(dtype))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_first_head_is_turned_as_plainly(dtype: torch.dtype) -> None:
    qkv = waves(2 * 9, 3 * 128, dtype=dtype)
    angles = 9 * waves(9, 32)
    wanted = qkv.view(2, 9, 3, 2, 64).clone()
    turns = angles.cos()[:, None], angles.sin()[:, None]
    wanted[:, :, :2, 0] = dit._rotated(wanted[:, :, :2, 0], turns).to(dtype)
    flow_kernels.turn_first_head(qkv, angles.cos(), angles.sin())
    assert_near(qkv, wanted.view_as(qkv))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_attention_sees_its_clip_before_its_limit(dtype: torch.dtype) -> None:
    work, owned = filled(LENGTHS)
    work.limits[owned[2]][:40], work.limits[owned[2]][40:90] = 33, 1
    # Keys and values of no clip must not be read, even to be weighed with zero.
    qkv = but_for(halves(owned), waves(2 * ROWS, 3 * 128, dtype=dtype))
    tiles = flow_kernels.Tiles(depth=16)
    actual = flow_kernels.attention(qkv, work.limits, work.tables, 2, tiles)
    for own, limits in zip(halves(owned), 2 * [work.limits[own] for own in owned], strict=True):
        frames = own.stop - own.start
        q, k, v = qkv[own].view(frames, 3, 2, 64).permute(1, 2, 0, 3).float()
        visible = torch.arange(frames) < limits[:, None]
        wanted = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        assert_near(actual[own], wanted.transpose(0, 1).flatten(1).to(dtype))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("adds", [False, True])
def test_convolution_stops_where_the_clip_does(dtype: torch.dtype, adds: bool) -> None:
    work, owned = filled(LENGTHS)
    layer = dit.Linear(waves(96, 6, 31) / 14, waves(96, seed=1))
    x = but_for(halves(owned), waves(2 * ROWS, 96, seed=2))
    out = torch.ones(2 * ROWS, 96, dtype=dtype)
    flow_kernels.GroupedConvolution.of(layer.weight, waves(96, seed=1), dtype)(
        x, work.tables, out, adds=adds
    )
    for own in halves(owned):
        plain = dit.convolve(x[own][None], layer, torch.ones(1, own.stop - own.start, 1))[0]
        assert_near(out[own], (functional.mish(plain) + adds).to(dtype))


def test_token_branch_as_the_plain_one() -> None:
    weights = golden_weights("tiny.flow.", flow_tensors(TINY.flow))
    work, owned = filled(LENGTHS)
    tokens = Flow(TINY.flow, weights).tokens
    block = tokens.blocks[0]
    hidden = but_for(owned, tokens.embed(work.tokens, work.places))
    actual = _token_layer(block, hidden, work.tables)
    for own in owned:
        wanted = block(hidden[own][None], torch.ones(1, own.stop - own.start, 1))[0]
        assert_near(actual[own], wanted)


def test_short_clips_have_room_for_all_their_tiles() -> None:
    work, owned = filled([1, 65, 3, 129], rows=384)
    given = work.tables.tiles[work.tables.tiles[:, 1] < 384].tolist()
    assert given == [[0, 0], [1, 0], [1, 64], [2, 0], [3, 0], [3, 64], [3, 128]]
    assert [own.start for own in owned] == [0, 64, 132, 196]


def test_smaller_workspace_knows_nothing_of_the_larger() -> None:
    arena = Arena(TINY.flow, 256, 4, torch.device("cpu"))
    whole, part = arena.workspace(256), arena.workspace(64)
    whole.memory.fill_(255)
    path = waves(2, 30, 80)
    one = FlowInput(torch.arange(9), waves(5, 80), waves(192), waves(18, 80), pinned=path)
    (own,) = arena.give(part, [one], torch.zeros(2, 14, 128), torch.ones(2, 2))
    assert own == slice(0, 18)
    assert part.tables.length.tolist() == [18, *[0] * (MOST_CLIPS - 1)]
    assert part.tables.token.tolist() == [*(row // 2 for row in range(18)), *[0] * 46]
    assert part.tables.tiles.tolist() == [[0, 0], [0, 64]]
    assert torch.equal(part.path[:2, :18], path[:, :18])


def test_groups_are_few_and_bounded() -> None:
    assert group_by_rows([300, 800, 310, 20, 790], 1200, 9) == [[1, 2, 3], [4, 0]]
    assert group_by_rows([9] * 5, 9999, 2) == [[0, 1], [2, 3], [4]]
    assert group_by_rows([9999, 9], 100, 9) == [[0], [1]]


# Rows of no clip hold whatever was there, and the interpreter may complain of it.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("precision", "error"), [("tf32", 1e-5), ("float16", 5e-3)])
def test_solve_as_the_plain_one(precision: Precision, error: float) -> None:
    weights = golden_weights("tiny.flow.", flow_tensors(TINY.flow))
    clips = [
        FlowInput(torch.arange(9), waves(5, 80), waves(192), waves(18, 80, seed=1)),
        FlowInput(
            torch.arange(6),
            waves(4, 80),
            waves(192, seed=3),
            waves(11, 80, seed=4),
            pinned=waves(2, 3, 80, seed=5),
            limits=torch.arange(1, 12),
            places=torch.arange(20, 31),
        ),
    ]
    solved = CudaFlow(TINY.flow, weights, precision).solve(clips, steps=2)
    for actual, wanted in zip(solved, Flow(TINY.flow, weights).solve(clips, steps=2), strict=True):
        torch.testing.assert_close(actual.mel, wanted.mel, atol=error, rtol=0)
        torch.testing.assert_close(actual.trajectory, wanted.trajectory, atol=error, rtol=0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_clip_keeps_its_bits_whatever_the_other_is() -> None:
    flow = CudaFlow(TINY.flow, golden_weights("tiny.flow.", flow_tensors(TINY.flow)))
    one, other = (
        FlowInput(torch.arange(9), waves(4, 80), waves(192), waves(18, 80, seed=seed))
        for seed in (1, 2)
    )
    third = other._replace(speaker=-other.speaker, condition=waves(9, 80), noise=9 * other.noise)
    first, beside = (flow.solve([one, each], steps=1) for each in (other, third))
    assert torch.equal(first[0].mel, beside[0].mel)
    assert not torch.equal(first[1].mel, beside[1].mel)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_clip_is_broken_by_its_own_rows_only() -> None:
    weights = golden_weights("tiny.flow.", flow_tensors(TINY.flow))
    clips = [
        FlowInput(torch.arange(6), waves(4, 80), waves(192), noise)
        for noise in (waves(12, 80), torch.full((12, 80), torch.inf), waves(11, 80))
    ]
    launched = CudaFlow(TINY.flow, weights).launch(clips, steps=1)
    assert launched.broken() == [1]
    assert launched.outputs[2].mel.isfinite().all()


def test_clip_is_mended_by_the_plain_flow() -> None:
    weights = golden_weights("tiny.flow.", flow_tensors(TINY.flow))
    clips = [
        FlowInput(torch.arange(6), waves(4, 80), waves(192), waves(12, 80, seed=seed))
        for seed in (1, 2)
    ]
    wanted = Flow(TINY.flow, weights).solve(clips, steps=2)
    (mended,) = CudaFlow(TINY.flow, weights).mend(clips[1:], steps=2)
    torch.testing.assert_close(mended.mel, wanted[1].mel, atol=1e-5, rtol=0)
