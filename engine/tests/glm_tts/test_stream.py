"""Blocks of speech tokens become the mel of the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.glm_tts.dims import TINY, Rates
from engine.glm_tts.flow import Flow, FlowInput, FlowOutput
from engine.glm_tts.philox import Purpose, normals
from engine.glm_tts.random_weights import random_weights
from engine.glm_tts.stream import BlockPlan, MelStream, Voice
from engine.glm_tts.tensors import flow_tensors

RATES = Rates()
STEPS = 3
PROMPT = 10

PLANS = [
    BlockPlan(blocks=(4,), look_ahead=(2,), left_context=3, fade_frames=0, mask="none"),
    BlockPlan(blocks=(5, 7, 20), look_ahead=(2, 3), left_context=8, fade_frames=0, mask="none"),
    BlockPlan(blocks=(1,), look_ahead=(0,), left_context=1, fade_frames=0, mask="blocks"),
    BlockPlan(blocks=(6,), look_ahead=(3,), left_context=0, fade_frames=0, mask="blocks-12hz"),
    BlockPlan(blocks=(500,), look_ahead=(0,), left_context=4, fade_frames=5, mask="none"),
]
WHOLE = PLANS[-1]


def voice(mel_frames: int = 2 * PROMPT) -> Voice:
    return Voice(
        speech_tokens=torch.arange(100, 100 + PROMPT),
        mel=torch.linspace(-8, 0, mel_frames)[:, None].expand(-1, 80).contiguous(),
        speaker=torch.linspace(-1, 1, 192),
    )


def local(clip: FlowInput) -> FlowOutput:
    """A solver that looks at nothing but a frame's own token and noise."""
    frames = torch.arange(len(clip.noise))
    token = clip.tokens[frames * len(clip.tokens) // len(frames)]
    mel = clip.noise + 1000 * token[:, None]
    path = mel.expand(STEPS, -1, -1)
    if clip.pinned is not None:
        torch.testing.assert_close(path[:, : clip.pinned.shape[1]], clip.pinned)
    return FlowOutput(mel, path)


def streamed(
    plan: BlockPlan, tokens: Tensor, speaking: Voice, solve: object = local
) -> tuple[Tensor, list[int]]:
    """The mel of all blocks, and how many frames each window had."""
    stream = MelStream(speaking, plan, RATES, seed=7)
    made, parts, windows, ended = 0, [], [], False
    while not ended:
        made = min(len(tokens), stream.wanted())
        ended = made == len(tokens)
        window = stream.window(tokens[:made], is_last=ended)
        windows.append(len(window.noise))
        assert callable(solve)
        parts.append(stream.accept(solve(window)))
    return torch.cat(parts), windows


@pytest.mark.parametrize("mel_frames", [2 * PROMPT - 1, 2 * PROMPT, 2 * PROMPT + 2])
@pytest.mark.parametrize("count", [1, 4, 5, 18, 60])
@pytest.mark.parametrize("plan", PLANS)
def test_every_frame_comes_once_and_in_its_place(
    plan: BlockPlan, count: int, mel_frames: int
) -> None:
    tokens, speaking = torch.arange(count), voice(mel_frames)
    mel, _ = streamed(plan, tokens, speaking)
    whole, _ = streamed(WHOLE, tokens, speaking)
    assert len(mel) == RATES.frames(PROMPT + count) - mel_frames
    torch.testing.assert_close(mel, whole)


def test_a_frame_has_the_noise_of_its_place_in_the_clip() -> None:
    tokens = torch.zeros(60, dtype=torch.int64)
    mel, _ = streamed(PLANS[0], tokens, voice())
    rows = torch.arange(2 * PROMPT, 2 * PROMPT + 120)[None]
    torch.testing.assert_close(mel, normals(torch.tensor([7]), Purpose.MEL, rows, 80)[0])


def test_cost_of_a_window_is_bounded() -> None:
    plan = BlockPlan(blocks=(10,), look_ahead=(5,), left_context=8, fade_frames=0, mask="none")
    _, windows = streamed(plan, torch.arange(400), voice())
    assert max(windows) == 2 * (PROMPT + 8 + 10 + 5)
    assert len(windows) == 40


def test_mask_follows_the_blocks_of_the_whole_clip() -> None:
    plan = BlockPlan(blocks=(4,), look_ahead=(2,), left_context=2, fade_frames=0, mask="blocks")
    stream = MelStream(voice(), plan, RATES, seed=7)
    tokens = torch.arange(20)
    first = stream.window(tokens[:6], is_last=False)
    assert first.limits is not None
    # A block of 8 frames sees 4 beyond it at its end; the prompt's 20 see 10 beyond theirs.
    assert first.limits[[0, 19, 20, 27]].tolist() == [20, 30, 28, 32]
    stream.accept(local(first))
    second = stream.window(tokens[:10], is_last=False)
    assert second.limits is not None
    # Two tokens before the block were left out: four frames fewer stand before each limit.
    assert second.limits[[0, 20, 24, 31]].tolist() == [20, 25, 32, 36]


def test_fade_blends_what_two_windows_say_of_a_frame() -> None:
    plan = BlockPlan(blocks=(4,), look_ahead=(2,), left_context=4, fade_frames=3, mask="none")
    calls = iter(range(100))

    def constant(clip: FlowInput) -> FlowOutput:
        mel = torch.full_like(clip.noise, next(calls))
        return FlowOutput(mel, mel.expand(STEPS, -1, -1))

    mel, _ = streamed(plan, torch.arange(10), voice(), constant)
    assert mel[:, 0].tolist() == [0.0] * 8 + [0.25, 0.5, 0.75] + [1.0] * 9


def flow() -> Flow:
    cpu = torch.device("cpu")
    return Flow(TINY.flow, random_weights("flow", flow_tensors(TINY.flow), 3, cpu, torch.float32))


def real(solver: Flow, clip: FlowInput) -> FlowOutput:
    return solver.solve([clip], steps=10)[0]


def test_one_window_of_everything_is_the_whole_clip() -> None:
    solver, tokens = flow(), torch.arange(40)
    everything = BlockPlan(
        blocks=(15,), look_ahead=(100,), left_context=0, fade_frames=0, mask="none"
    )
    mel, _ = streamed(everything, tokens, voice(), lambda clip: real(solver, clip))
    whole, _ = streamed(WHOLE, tokens, voice(), lambda clip: real(solver, clip))
    torch.testing.assert_close(mel, whole)


def test_streamed_mel_is_near_the_whole_clips() -> None:
    """Not equal: a frame of a whole clip depends on all that is said after it."""
    solver, tokens = flow(), torch.arange(150)
    plan = BlockPlan(
        blocks=(25, 50), look_ahead=(12, 25), left_context=50, fade_frames=5, mask="none"
    )
    mel, _ = streamed(plan, tokens, voice(), lambda clip: real(solver, clip))
    whole, _ = streamed(WHOLE, tokens, voice(), lambda clip: real(solver, clip))
    # 25 to 31 dB for the plans that were tried; 11 if windows counted their frames afresh.
    assert 10 * torch.log10(whole.var() / (mel - whole).var()) > 22
