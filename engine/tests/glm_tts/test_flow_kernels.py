"""The kernels by Triton's interpreter, at small sizes: TRITON_INTERPRET=1 in the environment."""

from __future__ import annotations

import os

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
from engine.glm_tts.cuda_flow import CudaFlow, Precision

TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3}
FRAMES = 70


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


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_modulation_as_the_plain_one(dtype: torch.dtype) -> None:
    hidden, branch = waves(2, 7, 96), waves(2, 7, 96, dtype=dtype, seed=1)
    shift, scale, gate = waves(2, 5, 96, seed=2)[:, 1:4].unbind(1)
    rows = [each[:, None] for each in (shift, scale, gate)]
    wanted = dit.modulate(hidden, *rows[:2])
    assert_near(flow_kernels.modulate(hidden, shift, scale, None, dtype), wanted.to(dtype))
    summed = hidden + rows[2] * branch
    wanted = dit.modulate(summed, *rows[:2])
    actual = flow_kernels.modulate(hidden, shift, scale, (gate, branch), dtype)
    assert_near(actual, wanted.to(dtype))
    assert_near(hidden, summed)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_first_head_is_turned_as_plainly(dtype: torch.dtype) -> None:
    qkv = waves(4, 7, 3 * 128, dtype=dtype)
    angles = 9 * waves(2, 7, 1, 32)
    wanted = qkv.view(4, 7, 3, 2, 64).clone()
    turns = angles.cos().repeat(2, 1, 1, 1), angles.sin().repeat(2, 1, 1, 1)
    wanted[:, :, :2, 0] = dit._rotated(wanted[:, :, :2, 0], turns).to(dtype)
    flow_kernels.turn_first_head(qkv, angles.cos()[:, :, 0], angles.sin()[:, :, 0])
    assert_near(qkv, wanted.flatten(2))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_attention_sees_what_is_before_its_limit(dtype: torch.dtype) -> None:
    qkv = waves(4, FRAMES, 3 * 128, dtype=dtype)
    limits = torch.full((2, FRAMES), FRAMES, dtype=torch.int32)
    limits[0, :40], limits[0, 40:50], limits[0, 50:] = 33, 50, 1
    # Keys and values beyond the end must not be read, even to be weighed with zero.
    q, k, v = qkv.view(4, FRAMES, 3, 2, 64).permute(2, 0, 3, 1, 4).float().clone()
    qkv[0::2, 50:, 128:] = torch.nan
    visible = torch.arange(FRAMES) < limits.repeat(2, 1)[:, None, :, None]
    wanted = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible)
    tiles = flow_kernels.Tiles(frames=16, depth=16)
    actual = flow_kernels.attention(qkv, limits, 2, tiles)
    assert_near(actual, wanted.transpose(1, 2).flatten(2).to(dtype))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("adds", [False, True])
def test_convolution_as_the_plain_one(dtype: torch.dtype, adds: bool) -> None:
    weight, bias = waves(96, 6, 31) / 14, waves(96, seed=1)
    x, lengths = waves(4, FRAMES, 96, seed=2), torch.tensor([40, FRAMES], dtype=torch.int32)
    real = (torch.arange(FRAMES) < lengths[:, None])[..., None].float().repeat(2, 1, 1)
    out = torch.ones(4, FRAMES, 96, dtype=dtype)
    wanted = functional.mish(dit.convolve(x, dit.Linear(weight, bias), real)) + adds
    convolution = flow_kernels.GroupedConvolution.of(weight, bias, dtype)
    convolution(x.masked_fill(real == 0, torch.nan), lengths, out, adds=adds)
    assert_near(out, wanted.to(dtype))


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


def test_clip_that_is_no_number_is_solved_again() -> None:
    weights = golden_weights("tiny.flow.", flow_tensors(TINY.flow))
    clips = [
        FlowInput(torch.arange(6), waves(4, 80), waves(192), waves(12, 80, seed=seed))
        for seed in (1, 2)
    ]
    wanted = Flow(TINY.flow, weights).solve(clips, steps=2)
    outputs = [output._replace(mel=output.mel.clone()) for output in wanted]
    outputs[1].mel[3, 5] = torch.inf
    kept = outputs[0].mel
    CudaFlow(TINY.flow, weights)._mend(outputs, clips, 2, 0.7)
    assert outputs[0].mel is kept
    torch.testing.assert_close(outputs[1].mel, wanted[1].mel, atol=1e-5, rtol=0)
