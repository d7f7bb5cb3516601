"""The flow's estimator with fused kernels, for one solve: a preparation and a step.

```
Workspace (given) --prepare--> Workspace (shared by all steps) --step--> x, path, ... --step--> x
```
Both write into the workspace only and ask nothing of the host: they can be recorded. The residual
stream, the velocity and x are float32 throughout.
"""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional

from engine.glm_tts import flow_kernels
from engine.glm_tts.dims import FlowDims
from engine.glm_tts.dit import Block, Dit, Linear
from engine.glm_tts.flow import with_and_without
from engine.glm_tts.flow_kernels import GroupedConvolution
from engine.glm_tts.flow_workspace import Workspace
from engine.glm_tts.token_branch import TokenBranch


class CudaDit:
    """The estimator and its solver's step. Worker's loop only.

    Args:
        dims: Sizes.
        dit: The plain estimator, in float32; shares the weights that are used once a solve.
        tokens: The token branch, likewise.
        dtype: What the layers' matrix products are given; they are summed in float32.
    """

    def __init__(self, dims: FlowDims, dit: Dit, tokens: TokenBranch, dtype: torch.dtype) -> None:
        self._dims = dims
        self._dtype = dtype
        self._plain = dit
        self._tokens = tokens
        self._blocks = [
            Block(*(Linear(*(each.to(dtype) for each in _both(linear))) for linear in block))
            for block in dit.blocks
        ]
        self._convolutions = [
            GroupedConvolution.of(*_both(convolution), dtype) for convolution in dit.convolutions
        ]

    def prepare(self, work: Workspace) -> None:
        """Compute what all steps have in common, and begin at the first."""
        frames = torch.arange(work.x.shape[1], device=work.x.device)
        real = (frames < work.lengths[:, None])[..., None].float()
        tokens = self._tokens(work.tokens, work.places, real)
        condition = with_and_without(work.condition)
        work.inputs.copy_(self._plain.inputs(condition, tokens.repeat(2, 1, 1)))
        for turn, kept in zip(
            self._plain.rotation(work.places), (work.cosines, work.sines), strict=True
        ):
            kept.copy_(turn[:, :, 0])
        by_speaker = self._plain.speaker_modulation(with_and_without(work.speakers))
        work.by_speaker.copy_(by_speaker[:, :, 0])
        work.now.zero_()

    def step(self, work: Workspace) -> None:
        """Follow the velocity once."""
        known = work.path.index_select(0, work.now)[0]
        torch.where(work.is_pinned, known, work.x, out=work.x)
        work.path.index_copy_(0, work.now, work.x[None])
        guided, free = self._velocity(work).chunk(2)
        pull = work.pull.index_select(0, work.now)[0]
        work.x.addcmul_(guided, pull[0]).addcmul_(free, pull[1])
        work.now.add_(1)

    def _velocity(self, work: Workspace) -> Tensor:
        """float32 [2 B, T, 80]."""
        turns = work.by_time.index_select(0, work.now) + work.by_speaker
        modulations = iter(turns.unbind(1))
        hidden = self._embed(work)
        added: tuple[Tensor, Tensor] | None = None
        for block in self._blocks:
            shift, scale, gate = islice(modulations, 3)
            normed = flow_kernels.modulate(hidden, shift, scale, added, self._dtype)
            added = gate, self._attention(block, normed, work)
            shift, scale, gate = islice(modulations, 3)
            normed = flow_kernels.modulate(hidden, shift, scale, added, self._dtype)
            added = gate, block.down(_gelu(block.up, normed))
        scale, shift = modulations
        normed = flow_kernels.modulate(hidden, shift, scale, added, torch.float32)
        return self._plain.to_mel(normed)

    def _embed(self, work: Workspace) -> Tensor:
        """The residual stream before the first block, float32 [2 B, T, W]."""
        # Both halves have the same x.
        halves = work.inputs.view(2, *work.x.shape[:2], -1)
        hidden = (halves + self._plain.from_x(work.x)).flatten(0, 1)
        first, second = self._convolutions
        near = torch.empty_like(hidden, dtype=first.weight.dtype)
        first(hidden, work.lengths, near, adds=False)
        second(near, work.lengths, hidden, adds=True)
        return hidden

    def _attention(self, block: Block, normed: Tensor, work: Workspace) -> Tensor:
        qkv = block.qkv(normed)
        flow_kernels.turn_first_head(qkv, work.cosines, work.sines)
        return block.out(flow_kernels.attention(qkv, work.limits, self._dims.heads))


def _both(linear: Linear) -> tuple[Tensor, Tensor]:
    assert linear.bias is not None, "a layer without a bias"
    return linear.weight, linear.bias


def _gelu(linear: Linear, x: Tensor) -> Tensor:
    """GELU by its tanh form, of a linear map."""
    if not x.is_cuda:
        return functional.gelu(linear(x), approximate="tanh")
    # As the product's epilogue, which torch has no public name for; on a CPU this is another GELU.
    weight, bias = _both(linear)
    rows = x.flatten(0, 1)
    inner = torch._addmm_activation(bias, rows, weight.mT, use_gelu=True)  # noqa: SLF001
    return inner.view(*x.shape[:2], -1)
