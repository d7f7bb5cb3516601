from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from engine.glm_tts.block_mask import block_limits, legacy_block_frames
from engine.glm_tts.dims import TINY
from engine.glm_tts.dit import Block, Dit, Shared, modulate
from engine.glm_tts.golden_weights import golden_weights
from engine.glm_tts.tensors import Weights, flow_tensors
from engine.glm_tts.token_branch import TokenBranch, tokens_of_frames
from engine.tests.glm_tts.goldens import golden

VECTORS = golden("dit_tiny")
PATTERNS = {"p2_1_2": [2, 1, 2], "p1_25_50_200": [1, 25, 50, 200], "p1_1": [1, 1]}


@pytest.fixture(scope="module")
def weights() -> Weights:
    tensors = golden_weights("tiny.flow.", flow_tensors(TINY.flow))
    return {name.removeprefix("estimator."): tensor for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def dit(weights: Weights) -> Dit:
    return Dit(TINY.flow, weights)


@pytest.fixture(scope="module")
def token_branch(weights: Weights) -> TokenBranch:
    return TokenBranch(TINY.flow, weights)


def assert_near(actual: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(actual, wanted, atol=1e-5, rtol=0)


def blocks(pattern: list[int], frames: int = 60) -> Tensor:
    limits = block_limits([legacy_block_frames(tokens) for tokens in pattern], frames)
    return (torch.arange(frames) < limits[:, None])[None, None]


def token_states(token_branch: TokenBranch, tokens: Tensor, frames: int) -> Tensor:
    owners = tokens_of_frames(tokens.shape[1], frames)
    places = torch.arange(frames).expand(len(tokens), -1)
    return token_branch(tokens[:, owners], places, torch.ones(len(tokens), frames, 1))


def shared_of(dit: Dit, condition: Tensor, tokens: Tensor, visible: Tensor | None) -> Shared:
    """As the original has it: no frame is hidden from the convolutions."""
    frames = condition.shape[1]
    return Shared(
        inputs=dit.inputs(condition, tokens),
        real=torch.ones(len(condition), frames, 1),
        rotation=dit.rotation(torch.arange(frames)[None]),
        visible=visible,
    )


def modulation(dit: Dit, speaker: Tensor) -> Tensor:
    return dit.time_modulation(VECTORS["a.t"]) + dit.speaker_modulation(speaker)


Velocity = Callable[[Dit, str, Tensor | None], Tensor]


@pytest.fixture
def velocity(token_branch: TokenBranch) -> Velocity:
    """Of the case with this prefix."""

    def of_case(dit: Dit, prefix: str, visible: Tensor | None) -> Tensor:
        def vector(name: str) -> Tensor:
            return VECTORS[f"{prefix}.{name}"]

        speaker = vector("spk" if prefix == "a.b2" else "spk_normed")
        tokens = token_states(token_branch, vector("tokens"), 60)
        shared = shared_of(dit, vector("cond"), tokens, visible)
        return dit.velocity(vector("x"), modulation(dit, speaker), shared)

    return of_case


def test_velocity_as_the_original(dit: Dit, velocity: Velocity) -> None:
    assert_near(velocity(dit, "a", None), VECTORS["a.out_full"])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_velocity_by_blocks_as_the_original(dit: Dit, velocity: Velocity, pattern: str) -> None:
    actual = velocity(dit, "a", blocks(PATTERNS[pattern]))
    assert_near(actual, VECTORS[f"a.out_causal.{pattern}"])


def test_frame_short_of_two_a_token_as_the_original(dit: Dit, token_branch: TokenBranch) -> None:
    tokens = token_states(token_branch, VECTORS["a.t57.tokens"], 57)
    shared = shared_of(dit, VECTORS["a.cond"][:, :57], tokens, None)
    turns = modulation(dit, VECTORS["a.spk_normed"])
    assert_near(dit.velocity(VECTORS["a.x"][:, :57], turns, shared), VECTORS["a.t57.out"])


class OriginalPadding(Dit):
    """What the original does about frames beyond the end: their attention's result is zero."""

    def attention(self, block: Block, normed: Tensor, shared: Shared) -> Tensor:
        return super().attention(block, normed, shared) * VECTORS["a.b2.mask"][..., None]


def test_batch_of_the_original(weights: Weights, velocity: Velocity) -> None:
    dit = OriginalPadding(TINY.flow, weights)
    assert_near(velocity(dit, "a.b2", None), VECTORS["a.b2.out_full"])
    visible = blocks(PATTERNS["p2_1_2"]) & VECTORS["a.b2.mask"].bool()[:, None, None]
    assert_near(velocity(dit, "a.b2", visible), VECTORS["a.b2.out_causal_p2_1_2"])


def test_states_on_the_way_as_the_original(dit: Dit, token_branch: TokenBranch) -> None:
    assert_near(dit.time_embedding(VECTORS["a.t"]), VECTORS["a.inter.time_emb"])
    tokens = token_states(token_branch, VECTORS["a.tokens"], 60)
    assert_near(tokens, VECTORS["a.inter.token_branch"])
    shared = shared_of(dit, VECTORS["a.cond"], tokens, None)
    hidden = dit.embed(VECTORS["a.x"], shared)
    assert_near(hidden, VECTORS["a.inter.after_input_proj"])
    turns = modulation(dit, VECTORS["a.spk_normed"])
    shift, scale = turns[:, 0], turns[:, 1]
    normed = modulate(hidden, shift, scale)
    assert_near(normed, VECTORS["a.inter.block0_attn_norm"])
    mixed = dit.attention(dit.blocks[0], normed, shared)
    assert_near(mixed, VECTORS["a.inter.block0_attn_out"])
    for index, block in enumerate(dit.blocks):
        hidden = dit.layer(block, hidden, turns[:, 6 * index : 6 * index + 6], shared)
        assert_near(hidden, VECTORS[f"a.inter.block{index}_out"])
    scale, shift = turns[:, -2], turns[:, -1]
    assert_near(modulate(hidden, shift, scale), VECTORS["a.inter.norm_out"])


@pytest.mark.parametrize(("tokens", "frames"), [(3, 4), (29, 57), (30, 60), (2095, 4189)])
def test_frames_find_their_tokens_as_torch_finds_the_nearest(tokens: int, frames: int) -> None:
    ids = torch.arange(tokens, dtype=torch.float32)[None, None]
    wanted = functional.interpolate(ids, size=frames, mode="nearest")[0, 0].long()
    assert torch.equal(tokens_of_frames(tokens, frames), wanted)


def test_attention_does_not_see_beyond_its_limit(dit: Dit) -> None:
    frames, limit = 20, 12
    normed = torch.linspace(-1, 1, frames * TINY.flow.width).sin().view(1, frames, -1)
    changed = normed.clone()
    changed[:, limit:] += 1
    visible = torch.full((1, 1, frames, frames), True)
    visible[..., :limit, limit:] = False
    rotation = dit.rotation(torch.arange(frames)[None])
    shared = Shared(normed, torch.ones(1, frames, 1), rotation, visible)
    before, after = (dit.attention(dit.blocks[0], each, shared)[0] for each in (normed, changed))
    torch.testing.assert_close(before[:limit], after[:limit], atol=1e-7, rtol=0)
    assert (before[limit:] - after[limit:]).abs().max() > 0.01


def test_stream_is_float32_with_weights_of_half_precision(
    weights: Weights, velocity: Velocity
) -> None:
    dit = Dit(TINY.flow, {name: tensor.half() for name, tensor in weights.items()})
    shared = shared_of(dit, VECTORS["a.cond"], VECTORS["a.inter.token_branch"], None)
    assert dit.embed(VECTORS["a.x"], shared).dtype == torch.float32
    actual = velocity(dit, "a", None)
    torch.testing.assert_close(actual, VECTORS["a.out_full"], atol=1e-2, rtol=0)
