"""The Llama that turns text into speech tokens: a padded prefill, then one token a row a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  its name everywhere
from torch import Tensor

from engine.glm_tts.dims import LlmDims, TokenIds
from engine.glm_tts.kv_cache import KvCache
from engine.glm_tts.quantized import Matrix, Quantized, linear
from engine.glm_tts.tensors import Weights


class Layer(NamedTuple):
    """Matrices [out, in]; those that read the same input are one."""

    attention_norm: Tensor
    qkv: Matrix
    attention_out: Matrix
    mlp_norm: Tensor
    gate_up: Matrix
    down: Matrix


Attention = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Keeps k and v of a layer and attends: (layer, q, k, v [..., heads, head_dim]) -> as q."""


class Llm:
    """Knows no job: all state is in the cache that it is given. Worker's loop only.

    Attributes:
        column_ids: [V] int64: the vocabulary id of each column of the logits.
        end: The column of the end of speech.
        embedding: [vocab, hidden].
        layers: From the first on.
        norm: [hidden], the last one's weight.
        head: [V, hidden].
        cos, sin: [max_positions, head_dim / 2] float32.
    """

    def __init__(
        self, dims: LlmDims, ids: TokenIds, weights: Weights, *, full_head: bool = False
    ) -> None:
        """Copy what is stacked and share the rest; `weights` is not needed afterwards.

        Args:
            dims: Of the checkpoint.
            ids: Likewise.
            weights: By Hugging Face's names for a Llama with a tied head.
            full_head: Logits of the whole vocabulary, column n for id n. Otherwise column n is
                speech token n, and the last one is the end: nothing else can be drawn.
        """
        self.dims = dims
        self.embedding = weights["model.embed_tokens.weight"]
        self.layers = [_layer(weights, index) for index in range(dims.layers)]
        self.norm = weights["model.norm.weight"]
        device = self.embedding.device
        if full_head:
            self.end = ids.end
            self.column_ids = torch.arange(dims.vocab, device=device)
            self.head = self.embedding
        else:
            self.end = ids.audio_tokens
            first = ids.first_audio
            columns = (*range(first, first + ids.audio_tokens), ids.end)
            self.column_ids = torch.tensor(columns, device=device)
            self.head = self.embedding[self.column_ids]
        self.cos, self.sin = _rope_tables(dims, device)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of the cache."""
        return self.embedding.dtype

    @torch.inference_mode()
    def fold_norms(self) -> None:
        """Make each norm's weight part of the matrix behind it, for kernels that know no weight.

        The logits stay the same but for rounding. Not with `full_head`: that is the embedding.
        """
        assert self.head is not self.embedding
        ones = torch.ones_like(self.norm)
        for index, layer in enumerate(self.layers):
            # One that is quantised was folded before.
            if not isinstance(layer.qkv, Quantized) and not isinstance(layer.gate_up, Quantized):
                layer.qkv.mul_(layer.attention_norm)
                layer.gate_up.mul_(layer.mlp_norm)
                self.layers[index] = layer._replace(attention_norm=ones, mlp_norm=ones)
        self.head.mul_(self.norm)
        self.norm = ones

    @torch.inference_mode()
    def quantize(self) -> None:
        """Round the layers' matrices to int8, their norms folded in.

        A CPU gains nothing by it, and keeps the rounded numbers in the dtype that it had.
        """
        self.fold_norms()
        for index, layer in enumerate(self.layers):
            self.layers[index] = layer._replace(
                qkv=_rounded(layer.qkv),
                attention_out=_rounded(layer.attention_out),
                gate_up=_rounded(layer.gate_up),
                down=_rounded(layer.down),
            )

    @torch.inference_mode()
    def prefill(self, ids: Tensor, lengths: Tensor, slots: Tensor, cache: KvCache) -> Tensor:
        """Read prompts into fresh slots, from position 0.

        Args:
            ids: [B, T] int64, padded on the right with any id.
            lengths: [B] int64, of each row without its padding; at least 1.
            slots: [B] int64, no two the same.
            cache: Written to.
        Returns:
            Logits after each row's last token, [B, V] float32.
        """

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
            cache.write_prompt(layer, slots, k, v)
            # No mask for the padding: on the right, it is in the future of all that counts.
            seen = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            return seen.transpose(1, 2)

        rows, tokens = ids.shape
        x = self._run_layers(ids, torch.arange(tokens, device=ids.device), attention)
        cache.lengths[slots] = lengths
        return self._logits(x[torch.arange(rows, device=ids.device), lengths - 1])

    @torch.inference_mode()
    def decode(self, ids: Tensor, slots: Tensor, cache: KvCache) -> Tensor:
        """Read one more token in each slot; in a full one, in the place of its last.

        Args:
            ids: [B] int64, of the vocabulary.
            slots: [B] int64, no two the same.
            cache: Read and written to.
        Returns:
            Logits after the token, [B, V] float32.
        """
        positions = cache.lengths[slots].clamp(max=cache.tokens - 1)
        lengths = positions + 1

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            cache.write_token(layer, slots, positions, k, v)
            return attend(q, cache.k[layer], cache.v[layer], slots, lengths)

        x = self._run_layers(ids, positions, attention)
        cache.lengths[slots] = lengths
        return self._logits(x)

    def _run_layers(self, ids: Tensor, positions: Tensor, attention: Attention) -> Tensor:
        """ids [...] -> [..., hidden], before the last norm; positions broadcast to ids."""
        x = F.embedding(ids, self.embedding)
        cos, sin = self.cos[positions][..., None, :], self.sin[positions][..., None, :]
        heads, kv_heads = self.dims.heads, self.dims.kv_heads
        for index, layer in enumerate(self.layers):
            qkv = linear(self._rms_norm(x, layer.attention_norm), layer.qkv)
            qkv = qkv.view(*ids.shape, heads + 2 * kv_heads, self.dims.head_dim)
            qk, v = torch.split(qkv, [heads + kv_heads, kv_heads], -2)
            q, k = torch.split(_rotate(qk, cos, sin), [heads, kv_heads], -2)
            x = x + linear(attention(index, q, k, v).flatten(-2), layer.attention_out)
            gate_up = linear(self._rms_norm(x, layer.mlp_norm), layer.gate_up)
            gate, up = gate_up.chunk(2, -1)
            x = x + linear(F.silu(gate) * up, layer.down)
        return x

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(self._rms_norm(x, self.norm), self.head).float()

    def _rms_norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """In float32 inside, whatever the dtype."""
        return F.rms_norm(x, weight.shape, weight, self.dims.norm_eps)


def attend(q: Tensor, k_cache: Tensor, v_cache: Tensor, slots: Tensor, lengths: Tensor) -> Tensor:
    """Attention of one query a row over the valid tokens of its slot.

    Args:
        q: [B, heads, head_dim].
        k_cache: [slots, kv_heads, tokens, head_dim], of one layer.
        v_cache: Likewise.
        slots: [B] int64.
        lengths: [B] int64: valid tokens, this one included.
    Returns:
        [B, heads, head_dim].
    """
    # The heads that share keys stand where a sequence of queries would: nothing is expanded.
    shared = q.view(len(q), k_cache.shape[1], -1, q.shape[-1])
    is_valid = torch.arange(k_cache.shape[2], device=q.device) < lengths[:, None]
    # Of one row, on a CPU, index_select is four times as fast as k_cache[slots].
    k, v = k_cache.index_select(0, slots), v_cache.index_select(0, slots)
    seen = F.scaled_dot_product_attention(shared, k, v, attn_mask=is_valid[:, None, None])
    return seen.reshape(q.shape)


def _rope_tables(dims: LlmDims, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin, [max_positions, head_dim / 2] float32."""
    exponents = torch.arange(0, dims.head_dim, 2, device=device) / dims.head_dim
    positions = torch.arange(dims.max_positions, device=device, dtype=torch.float32)
    angles = torch.outer(positions, 1 / dims.rope_theta**exponents)
    return angles.cos(), angles.sin()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rope in float32: pair n is (n, n + head_dim / 2)."""
    first, second = x.float().chunk(2, -1)
    rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
    return rotated.to(x.dtype)


def _layer(weights: Weights, index: int) -> Layer:
    def weight(name: str) -> Tensor:
        return weights[f"model.layers.{index}.{name}.weight"]

    return Layer(
        attention_norm=weight("input_layernorm"),
        qkv=torch.cat([weight(f"self_attn.{part}_proj") for part in "qkv"]),
        attention_out=weight("self_attn.o_proj"),
        mlp_norm=weight("post_attention_layernorm"),
        gate_up=torch.cat([weight(f"mlp.{part}_proj") for part in ("gate", "up")]),
        down=weight("mlp.down_proj"),
    )


def _rounded(matrix: Matrix) -> Matrix:
    assert not isinstance(matrix, Quantized)
    quantized = Quantized.of(matrix)
    return quantized if matrix.is_cuda else quantized.dequantized(matrix.dtype)
