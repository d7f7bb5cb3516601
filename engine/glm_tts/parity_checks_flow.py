"""Parity of the flow: one call of its estimator, and whole solves."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from engine.glm_tts.block_mask import block_limits, legacy_block_frames
from engine.glm_tts.dims import TINY, TRUE
from engine.glm_tts.dit import Dit, Shared
from engine.glm_tts.flow import Flow, FlowInput
from engine.glm_tts.parity_goldens import Comparison, Goldens
from engine.glm_tts.tensors import flow_tensors
from engine.glm_tts.token_branch import TokenBranch, tokens_of_frames

_STREAM_BLOCKS = (2, 1, 2)
"""Tokens, of the clips that are solved block by block."""


def dit(goldens: Goldens) -> Iterator[Comparison]:
    """One call of the estimator."""
    case = _DitCase(goldens)
    bound = 1e-4 if goldens.is_true else 1e-5
    for tag in goldens.tags(".out_full"):
        if tag.endswith(".b2"):
            remark = "first row: the original lets others see the second's padding"
            actual = case.velocity(tag, speaker="spk")[:1]
            yield goldens.apart(
                f"{tag}.out_full", actual, goldens[f"{tag}.out_full"][:1], bound, remark
            )
        else:
            yield goldens.near(f"{tag}.out_full", case.velocity(tag), bound)
    for name in goldens.tags(""):
        tag, found, pattern = name.partition(".out_causal.p")
        if found:
            blocks = [int(tokens) for tokens in pattern.split("_")]
            yield goldens.near(name, case.velocity(tag, blocks=blocks), bound)
    for tag in goldens.tags(".t57.out"):
        actual = case.velocity(tag, frames=57, tokens=f"{tag}.t57.tokens")
        yield goldens.near(f"{tag}.t57.out", actual, bound)


class _DitCase:
    """The estimator, called as the solver does."""

    def __init__(self, goldens: Goldens) -> None:
        dims = (TRUE if goldens.is_true else TINY).flow
        stored = goldens.weights("flow", flow_tensors(dims))
        weights = {name.removeprefix("estimator."): each for name, each in stored.items()}
        self._goldens = goldens
        self._dit = Dit(dims, weights)
        self._tokens = TokenBranch(dims, weights)

    @torch.inference_mode()
    def velocity(
        self,
        tag: str,
        *,
        speaker: str = "spk_normed",
        blocks: list[int] | None = None,
        frames: int | None = None,
        tokens: str | None = None,
    ) -> Tensor:
        goldens = self._goldens
        ids = goldens[tokens or f"{tag}.tokens"]
        frames = frames or 2 * ids.shape[1]
        shape = (len(ids), 2 * goldens[f"{tag}.tokens"].shape[1], 80)
        x, condition = (goldens.get(f"{tag}.{name}", shape)[:, :frames] for name in ("x", "cond"))
        real = torch.ones(len(ids), frames, 1, device=goldens.device)
        visible = None
        if blocks is not None:
            limits = block_limits([legacy_block_frames(block) for block in blocks], frames)
            visible = (torch.arange(frames) < limits[:, None])[None, None].to(goldens.device)
        owners = tokens_of_frames(ids.shape[1], frames).to(goldens.device)
        places = torch.arange(frames, device=goldens.device).expand(len(ids), -1)
        shared = Shared(
            inputs=self._dit.inputs(condition, self._tokens(ids[:, owners], places, real)),
            real=real,
            rotation=self._dit.rotation(places[:1]),
            visible=visible,
        )
        time = goldens[f"{tag.removesuffix('.b2')}.t"]
        speakers = self._dit.speaker_modulation(goldens[f"{tag}.{speaker}"])
        return self._dit.velocity(x, self._dit.time_modulation(time) + speakers, shared)


def flow(goldens: Goldens) -> Iterator[Comparison]:
    """Noise to mel; of a stream, each clip pinned to the one before."""
    dims = (TRUE if goldens.is_true else TINY).flow
    solver = Flow(dims, goldens.weights("flow", flow_tensors(dims)))
    bound = 1e-4 if goldens.is_true else 1e-5
    for tag in goldens.tags(".mel"):
        path = f"{tag}.x_before_step"
        steps = len(goldens[path]) if path in goldens else 10
        (solved,) = solver.solve([_clip(goldens, tag)], steps=steps)
        wanted = goldens[f"{tag}.mel"][0].T
        yield goldens.apart(f"{tag}.mel", solved.mel[-len(wanted) :], wanted, bound)
        if path in goldens:
            yield goldens.near(path, solved.trajectory, bound)


def _clip(goldens: Goldens, tag: str) -> FlowInput:
    # The second clip of a stream has the prompt of the first, and goes on where that ended.
    first = tag if f"{tag}.prompt_token" in goldens else tag.replace(".c2", ".c1")
    tokens = torch.cat((goldens[f"{first}.prompt_token"], goldens[f"{tag}.token"]), 1)[0].long()
    condition = goldens[f"{first}.prompt_feat"][0]
    frames = len(condition) + goldens[f"{tag}.mel"].shape[2]
    limits = pinned = None
    if "stream" in tag:
        sizes = [legacy_block_frames(block) for block in _STREAM_BLOCKS]
        limits = block_limits(sizes, frames).to(goldens.device)
    if first != tag:
        name = f"{tag.removesuffix('.c2')}.override_len"
        pinned = goldens[f"{first}.x_before_step"][:, : int(goldens[name])]
    return FlowInput(
        tokens=tokens,
        condition=condition,
        speaker=goldens[f"{first}.embedding"][0],
        noise=goldens.get(f"{tag}.noise", (1, frames, 80))[0],
        limits=limits,
        pinned=pinned,
    )
