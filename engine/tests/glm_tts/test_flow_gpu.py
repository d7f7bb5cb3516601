from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.glm_tts.dims import TINY
from engine.glm_tts.flow import Flow, FlowInput, FlowOutput
from engine.glm_tts.golden_weights import golden_weights
from engine.glm_tts.model_memory import GraphRoom, tensors_of
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


def signal_to_noise_db(actual: Tensor, wanted: Tensor) -> float:
    power = (actual - wanted).double().square().mean()
    return float(10 * torch.log10(wanted.double().square().mean() / power))


@pytest.mark.parametrize("precision", ERRORS)
@pytest.mark.parametrize("is_recorded", [False, True])
def test_solve_as_the_plain_one(precision: str, is_recorded: bool) -> None:
    from engine.glm_tts.cuda_flow import CudaFlow

    flow = CudaFlow(TINY.flow, weights(), precision)  # type: ignore[arg-type]
    if is_recorded:
        flow = flow.recorded(GraphRoom(), rows=[192, 448])
    wanted = Flow(TINY.flow, weights()).solve(clips())
    for _ in range(2):
        assert_near(flow.solve(clips()), wanted, ERRORS[precision])


def test_ragged_batch_is_as_precise_as_each_clip_alone() -> None:
    from engine.glm_tts.cuda_flow import CudaFlow

    flow, plain = CudaFlow(TINY.flow, weights()), Flow(TINY.flow, weights())
    flow = flow.recorded(GraphRoom(), rows=[192, 320, 448, 768])
    many = [*clips(), clip(1), clip(67, seed=2), clip(203, seed=4)]
    for solved, each in zip(flow.solve(many), many, strict=True):
        (alone,), (exact,) = flow.solve([each]), plain.solve([each])
        assert signal_to_noise_db(solved.mel, exact.mel) > 60
        assert signal_to_noise_db(solved.mel, alone.mel) > 60


def test_clips_of_several_solves_come_back_in_order() -> None:
    from engine.glm_tts.cuda_flow import CudaFlow

    flow, plain = CudaFlow(TINY.flow, weights()), Flow(TINY.flow, weights())
    flow = flow.recorded(GraphRoom(), rows=[1024, 4096])
    many = [clip(frames, seed=frames % 3) for frames in (1500, 70, 2900, 900, 4500, 33)]
    wanted = [plain.solve([each], steps=10)[0] for each in many]
    assert_near(flow.solve(many), wanted, ERRORS["float16"])


def test_one_recording_serves_all_numbers_of_steps() -> None:
    from engine.glm_tts.cuda_flow import CudaFlow

    flow, plain = CudaFlow(TINY.flow, weights()), Flow(TINY.flow, weights())
    flow = flow.recorded(GraphRoom(), rows=[128])
    for steps in (10, 4, 20, 25, 4):
        one = [clip(100, seed=2, steps=steps)]
        assert_near(
            flow.solve(one, steps=steps, cfg_rate=steps / 20),
            plain.solve(one, steps=steps, cfg_rate=steps / 20),
            ERRORS["float16"],
        )


def test_clip_keeps_its_bits_in_solves_of_as_many_rows() -> None:
    from engine.glm_tts.cuda_flow import CudaFlow

    flow = CudaFlow(TINY.flow, weights())
    flow = flow.recorded(GraphRoom(), rows=[512])
    first, other, last = clips()
    (alone,) = flow.solve([first])
    # Overflow itself stays where it is.
    broken = other._replace(noise=other.noise * torch.nan)
    for beside in ([other], [other, last], [clip(33, seed=1), last], [broken, last]):
        assert torch.equal(flow.solve([first, *beside])[0].mel, alone.mel)
        assert torch.equal(flow.solve([*beside, first])[-1].trajectory, alone.trajectory)


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


def test_weights_that_only_the_exact_solve_needs_are_not_on_the_device() -> None:
    from engine.glm_tts.cuda_flow import CudaFlow

    flow = CudaFlow(TINY.flow, weights())
    assert {weight.device.type for weight in flow._exact.values()} == {"cpu"}
    layers = [tensor.dtype for tensor in tensors_of(flow._dit._blocks)]
    assert set(layers) == {torch.float16}
