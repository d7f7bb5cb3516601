from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.glm_tts.block_mask import block_limits, legacy_block_frames
from engine.glm_tts.dims import TINY
from engine.glm_tts.flow import Flow, FlowInput, FlowOutput, time_grid
from engine.glm_tts.golden_weights import golden_weights
from engine.glm_tts.tensors import flow_tensors
from engine.tests.glm_tts.goldens import golden

VECTORS = golden("flow_tiny")
WHOLE = ["full", "round", "lp22"]
BLOCKS = [legacy_block_frames(tokens) for tokens in (2, 1, 2)]


@pytest.fixture(scope="module")
def flow() -> Flow:
    return Flow(TINY.flow, golden_weights("tiny.flow.", flow_tensors(TINY.flow)))


def assert_near(actual: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(actual, wanted, atol=1e-5, rtol=0)


def clip(case: str, prompt: str | None = None) -> FlowInput:
    """A stored case; the prompt may be another case's."""
    prompt = prompt or case
    tokens = torch.cat((VECTORS[f"{prompt}.prompt_token"], VECTORS[f"{case}.token"]), 1)
    return FlowInput(
        tokens=tokens[0].long(),
        condition=VECTORS[f"{prompt}.prompt_feat"][0],
        speaker=VECTORS[f"{prompt}.embedding"][0],
        noise=VECTORS[f"{case}.noise"][0],
    )


def first_window() -> FlowInput:
    return clip("stream.c1")._replace(limits=block_limits(BLOCKS, 36))


def second_window(pinned: Tensor) -> FlowInput:
    window = clip("stream.c2", prompt="stream.c1")
    return window._replace(pinned=pinned, limits=block_limits(BLOCKS, 68))


def assert_as_stored(solved: FlowOutput, case: str) -> None:
    mel = VECTORS[f"{case}.mel"][0].T
    assert_near(solved.mel[-len(mel) :], mel)
    assert_near(solved.trajectory, VECTORS[f"{case}.x_before_step"])


def assert_same(solved: FlowOutput, alone: FlowOutput) -> None:
    assert_near(solved.mel, alone.mel)
    assert_near(solved.trajectory, alone.trajectory)


@pytest.mark.parametrize("case", WHOLE)
def test_clip_as_the_original(flow: Flow, case: str) -> None:
    (solved,) = flow.solve([clip(case)])
    assert_as_stored(solved, case)


def test_fewer_steps_as_the_original(flow: Flow) -> None:
    (solved,) = flow.solve([clip("steps4")], steps=4)
    assert_as_stored(solved, "steps4")


def test_stream_as_the_original(flow: Flow) -> None:
    (first,) = flow.solve([first_window()])
    assert_as_stored(first, "stream.c1")
    known = int(VECTORS["stream.override_len"])
    (second,) = flow.solve([second_window(first.trajectory[:, :known])])
    assert_as_stored(second, "stream.c2")


def test_clip_in_a_batch_equals_the_clip_alone(flow: Flow) -> None:
    path = VECTORS["stream.c1.x_before_step"][:, :30]
    clips = [clip("full"), first_window(), clip("round"), second_window(path)]
    for solved, each in zip(flow.solve(clips), clips, strict=True):
        (alone,) = flow.solve([each])
        assert_same(solved, alone)


def test_pinned_frames_stay_pinned(flow: Flow) -> None:
    path = torch.linspace(-1, 1, 10 * 7 * 80).view(10, 7, 80)
    free, pinned = flow.solve([clip("full"), clip("full")._replace(pinned=path)])
    assert torch.equal(pinned.trajectory[:, :7], path)
    assert torch.equal(pinned.trajectory[0, 7:], free.trajectory[0, 7:])
    assert not torch.isclose(pinned.trajectory[1:, 7:], free.trajectory[1:, 7:]).all()


def test_pins_beyond_the_end_do_nothing(flow: Flow) -> None:
    path = torch.linspace(-1, 1, 10 * 70 * 80).view(10, 70, 80)
    (solved,) = flow.solve([clip("full")._replace(pinned=path)])
    assert torch.equal(solved.trajectory, path[:, :60])


def test_pins_of_another_number_of_steps_are_our_bug(flow: Flow) -> None:
    with pytest.raises(AssertionError):
        flow.solve([clip("full")._replace(pinned=torch.zeros(10, 7, 80))], steps=4)


def test_without_guidance_only_the_prompted_pass_counts(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    (wanted,) = flow.solve([clip("full")], cfg_rate=0)
    velocity = flow.dit.velocity

    def only_prompted(x: Tensor, *rest: object) -> Tensor:
        prompted, free = velocity(x, *rest).chunk(2)  # type: ignore[arg-type]
        return torch.cat((prompted, torch.full_like(free, 1e3)))

    monkeypatch.setattr(flow.dit, "velocity", only_prompted)
    (solved,) = flow.solve([clip("full")], cfg_rate=0)
    assert torch.equal(solved.mel, wanted.mel)


def test_speaker_counts_by_direction_only(flow: Flow) -> None:
    case = clip("full")
    solved, louder = flow.solve([case, case._replace(speaker=3 * case.speaker)])
    assert_same(louder, solved)


def test_more_prompt_than_frames_leaves_its_end(flow: Flow) -> None:
    case = clip("full")
    longer = torch.cat((torch.full((50, 80), 9.0), case.noise))
    wanted, solved = flow.solve(
        [case._replace(condition=case.noise), case._replace(condition=longer)]
    )
    assert torch.equal(solved.mel, wanted.mel)


def test_clip_needs_no_prompt(flow: Flow) -> None:
    (solved,) = flow.solve([clip("full")._replace(condition=torch.zeros(0, 80))])
    assert solved.mel.isfinite().all()


def test_more_frames_than_the_tokens_give_are_our_bug(flow: Flow) -> None:
    case = clip("full")
    with pytest.raises(AssertionError):
        flow.solve([case._replace(tokens=case.tokens[:-1])])


@pytest.mark.parametrize("steps", [4, 10])
def test_steps_grow_and_end_at_one(steps: int) -> None:
    times, strides = time_grid(steps)
    assert len(times) == len(strides) == steps
    assert times[0] == 0
    assert strides == sorted(strides)
    assert abs(times[-1].item() + strides[-1] - 1) < 1e-6
