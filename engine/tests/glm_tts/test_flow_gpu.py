from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.glm_tts.dims import TINY
from engine.glm_tts.flow import Flow, FlowInput, FlowOutput
from engine.glm_tts.golden_weights import golden_weights
from engine.glm_tts.tensors import Weights, flow_tensors

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

ERRORS = {"tf32": 5e-3, "float16": 1e-2, "bfloat16": 1e-1}


def waves(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).cuda()


def weights() -> Weights:
    tensors = golden_weights("tiny.flow.", flow_tensors(TINY.flow))
    return {name: tensor.cuda() for name, tensor in tensors.items()}


def clip(frames: int, seed: int = 0, steps: int = 10) -> FlowInput:
    return FlowInput(
        tokens=torch.arange((frames + 1) // 2).cuda() % 200,
        condition=waves(frames // 3, 80, seed=seed),
        speaker=waves(192, seed=seed + 1),
        noise=waves(frames, 80, seed=seed + 2),
        pinned=waves(steps, seed, 80, seed=seed + 3) if seed else None,
        limits=(torch.arange(frames) + 9 * seed + 1).cuda() if seed else None,
        places=torch.arange(seed, frames + seed).cuda(),
    )


def clips() -> list[FlowInput]:
    return [clip(150), clip(190, seed=3), clip(64, seed=5)]


def assert_near(solved: list[FlowOutput], wanted: list[FlowOutput], error: float) -> None:
    for one, other in zip(solved, wanted, strict=True):
        torch.testing.assert_close(one.mel, other.mel, atol=error, rtol=0)
        torch.testing.assert_close(one.trajectory, other.trajectory, atol=error, rtol=0)


@pytest.mark.parametrize("precision", ERRORS)
@pytest.mark.parametrize("is_recorded", [False, True])
def test_solve_as_the_plain_one(precision: str, is_recorded: bool) -> None:
    from engine.glm_tts.cuda_flow import CudaFlow

    flow = CudaFlow(TINY.flow, weights(), precision)  # type: ignore[arg-type]
    if is_recorded:
        assert flow.warm_up([128, 192], [1, 2, 4]) == 6
    wanted = Flow(TINY.flow, weights()).solve(clips())
    for _ in range(2):
        assert_near(flow.solve(clips()), wanted, ERRORS[precision])


def test_one_recording_serves_all_numbers_of_steps() -> None:
    from engine.glm_tts.cuda_flow import CudaFlow

    flow, plain = CudaFlow(TINY.flow, weights()), Flow(TINY.flow, weights())
    flow.warm_up([128], [1])
    for steps in (10, 4, 20, 25, 4):
        one = [clip(100, seed=2, steps=steps)]
        assert_near(
            flow.solve(one, steps=steps, cfg_rate=steps / 20),
            plain.solve(one, steps=steps, cfg_rate=steps / 20),
            ERRORS["float16"],
        )


def test_clip_is_the_same_whatever_is_beside_it() -> None:
    from engine.glm_tts.cuda_flow import CudaFlow

    flow = CudaFlow(TINY.flow, weights())
    flow.warm_up([192], [2])
    (alone,) = flow.solve(clips()[:1])
    beside, _ = flow.solve(clips()[:2])
    assert torch.equal(alone.mel, beside.mel)


def test_clip_beyond_float16_is_solved_again(caplog: pytest.LogCaptureFixture) -> None:
    from engine.glm_tts.cuda_flow import CudaFlow

    large = weights()
    large["estimator.transformer_blocks.0.ff.ff.0.0.bias"] += 1e5
    large["estimator.transformer_blocks.0.ff.ff.2.weight"] *= 1e-5
    assert_near(
        CudaFlow(TINY.flow, large).solve(clips()),
        Flow(TINY.flow, large).solve(clips()),
        ERRORS["tf32"],
    )
    assert "solved again" in caplog.text
