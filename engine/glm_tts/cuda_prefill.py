"""Reading a prompt on CUDA: cuBLAS and flash attention, with as few launches as they allow.

One prompt at a time, without padding: what else is admitted changes nothing of how it is added up.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812  its name everywhere
import triton
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from engine.glm_tts import attention_kernels
from engine.glm_tts.llm import Llm
from engine.glm_tts.slot_memory import SlotMemory

_BLOCK = 1024


def read_prompt(ids: Tensor, slot: int, llm: Llm, head: Tensor, memory: SlotMemory) -> Tensor:
    """Read a prompt into a slot, from position 0.

    Args:
        ids: [T] int64, of the vocabulary.
        slot: Has its memory already.
        llm: With its norms folded.
        head: [C, hidden].
        memory: Written to.
    Returns:
        Scores after the last token, [1, C].
    """
    inner_width, eps = llm.dims.intermediate, llm.dims.norm_eps
    x = F.embedding(ids, llm.embedding)
    inner = x.new_empty(len(ids), inner_width)
    # The first is CUDA's; the other stands in where there is none.
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
        for index, layer in enumerate(llm.layers):
            qkv = F.linear(F.rms_norm(x, x.shape[1:], None, eps), layer.qkv)
            x.addmm_(_attend(qkv, slot, index, llm, memory), layer.attention_out.T)
            gate_up = F.linear(F.rms_norm(x, x.shape[1:], None, eps), layer.gate_up)
            grid = (len(ids), -(-inner_width // _BLOCK))
            attention_kernels.swiglu[grid](gate_up, inner, inner_width, BLOCK=_BLOCK)
            x.addmm_(inner, layer.down.T)
    return F.linear(F.rms_norm(x[-1:], x.shape[1:], None, eps), head)


def _attend(qkv: Tensor, slot: int, layer: int, llm: Llm, memory: SlotMemory) -> Tensor:
    """Keep a layer's keys and values, and attend: [T, width] -> [T, heads * head_dim]."""
    heads, kv_heads, head_dim = llm.dims.heads, llm.dims.kv_heads, llm.dims.head_dim
    lines = heads + 2 * kv_heads
    attention_kernels.keep_prompt[(len(qkv),)](
        qkv, llm.cos, llm.sin, memory.origin, memory.places, memory.rooms, slot, layer,
        HEADS=heads, KV_HEADS=kv_heads, D=head_dim, UNIT=memory.unit,
        LINES=triton.next_power_of_2(lines),
    )  # fmt: skip
    vectors = qkv.view(1, len(qkv), lines, head_dim).transpose(1, 2)
    q, k, v = vectors.split_with_sizes([heads, kv_heads, kv_heads], 1)
    seen = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return seen.transpose(1, 2).reshape(len(qkv), -1)
