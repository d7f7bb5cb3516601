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

from engine.glm_tts import flow_kernels, solver_kernels, token_kernels
from engine.glm_tts.dims import FlowDims
from engine.glm_tts.dit import Block, Linear, rotation
from engine.glm_tts.flow import Flow
from engine.glm_tts.flow_kernels import GroupedConvolution
from engine.glm_tts.flow_workspace import Tables, Workspace
from engine.glm_tts.token_branch import TokenBlock

_EPS = 1e-6


class CudaDit:
    """The estimator and its solver's step. Worker's loop only.

    Args:
        dims: Sizes.
        plain: In float32; those of its weights that are used once a solve are shared, and the
            rest is not held.
        dtype: What the layers' matrix products are given; they are summed in float32.
    """

    def __init__(self, dims: FlowDims, plain: Flow, dtype: torch.dtype) -> None:
        self._dims = dims
        self._dtype = dtype
        dit = plain.dit
        self._tokens = plain.tokens
        self._from_x, self._from_condition = dit.from_x, dit.from_condition
        self._from_tokens, self._from_speaker = dit.from_tokens, dit.from_speaker
        self._to_mel = dit.to_mel
        self._blocks = [
            Block(*(Linear(*(each.to(dtype) for each in _both(linear))) for linear in block))
            for block in dit.blocks
        ]
        self._convolutions = [
            GroupedConvolution.of(*_both(convolution), dtype) for convolution in dit.convolutions
        ]

    def prepare(self, work: Workspace) -> None:
        """Compute what all steps have in common, and begin at the first."""
        tokens = self._tokens.embed(work.tokens, work.places)
        for block in self._tokens.blocks:
            tokens = _token_layer(block, tokens, work.tables)
        guided, free = work.inputs
        weight, bias = _both(self._from_tokens)
        torch.addmm(bias, tokens, weight.mT, out=free)
        torch.addmm(free, work.condition, self._from_condition.weight.mT, out=guided)
        cosines, sines = rotation(work.places, self._dims.head_dim)
        work.cosines.copy_(cosines)
        work.sines.copy_(sines)
        by_speaker = self._from_speaker(functional.silu(functional.normalize(work.speakers)))
        work.by_speaker.copy_(by_speaker.view_as(work.by_speaker))
        work.now.zero_()

    def step(self, work: Workspace) -> None:
        """Follow the velocity once."""
        solver_kernels.begin_step(work)
        solver_kernels.end_step(work, self._velocity(work))

    def _velocity(self, work: Workspace) -> Tensor:
        """float32 [2 R, 80]."""
        modulations = iter(work.turns.unbind(1))
        hidden = self._embed(work)
        added: tuple[Tensor, Tensor] | None = None
        for block in self._blocks:
            shift, scale, gate = islice(modulations, 3)
            normed = flow_kernels.modulate(hidden, shift, scale, added, work.tables, self._dtype)
            added = gate, self._attention(block, normed, work)
            shift, scale, gate = islice(modulations, 3)
            normed = flow_kernels.modulate(hidden, shift, scale, added, work.tables, self._dtype)
            added = gate, block.down(_gelu(block.up, normed))
        scale, shift = modulations
        normed = flow_kernels.modulate(hidden, shift, scale, added, work.tables, torch.float32)
        return self._to_mel(normed)

    def _embed(self, work: Workspace) -> Tensor:
        """The residual stream before the first block, float32 [2 R, W]."""
        # Both halves have the same x.
        hidden = (work.inputs + self._from_x(work.x)).flatten(0, 1)
        first, second = self._convolutions
        near = torch.empty_like(hidden, dtype=first.weight.dtype)
        first(hidden, work.tables, near, adds=False)
        second(near, work.tables, hidden, adds=True)
        return hidden

    def _attention(self, block: Block, normed: Tensor, work: Workspace) -> Tensor:
        qkv = block.qkv(normed)
        flow_kernels.turn_first_head(qkv, work.cosines, work.sines)
        return block.out(flow_kernels.attention(qkv, work.limits, work.tables, self._dims.heads))


def _token_layer(block: TokenBlock, hidden: Tensor, tables: Tables) -> Tensor:
    """As `TokenBlock.__call__`, float32 [R, token width] -> the same."""
    normed = token_kernels.convolve_and_norm(hidden, *_both(block.depthwise), block.norm, tables)
    inner = functional.gelu(block.up(normed))
    strength = token_kernels.strength(inner, tables)
    share = strength / (strength.mean(-1, keepdim=True) + _EPS)
    factors = (1 + block.gamma.view(1, -1) * share).index_select(0, tables.clip)
    return hidden + block.down(torch.addcmul(block.beta.view(1, -1), inner, factors))


def _both(linear: Linear) -> tuple[Tensor, Tensor]:
    assert linear.bias is not None, "a layer without a bias"
    return linear.weight, linear.bias


def _gelu(linear: Linear, x: Tensor) -> Tensor:
    """GELU by its tanh form, of a linear map."""
    if not x.is_cuda:
        return functional.gelu(linear(x), approximate="tanh")
    # As the product's epilogue, which torch has no public name for; on a CPU this is another GELU.
    weight, bias = _both(linear)
    return torch._addmm_activation(bias, x, weight.mT, use_gelu=True)  # noqa: SLF001
