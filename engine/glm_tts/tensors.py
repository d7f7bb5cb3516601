"""The tensors of a checkpoint: what each part must hold, by name and shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from engine.glm_tts.dims import FlowDims, HiftDims, LlmDims, SpeechTokenizerDims

Weights: TypeAlias = dict[str, Tensor]
"""A part's tensors by the checkpoint's names, weight norm folded into `X.weight`."""

Shapes: TypeAlias = dict[str, tuple[int, ...]]
"""Of a part's tensors, by the names in its file."""

_GAIN = ".parametrizations.weight.original0"
_DIRECTION = ".parametrizations.weight.original1"

_UPSAMPLING_KERNELS = (16, 11, 7)
_RESIDUAL_KERNELS = (3, 7, 11)
_SOURCE_KERNELS = (7, 7, 11)
_SOURCE_DOWN_KERNELS = (30, 6, 1)
_SPECTRUM = 18
"""Rows of the vocoder's short spectrum: 9 bins, as magnitude and phase or real and imaginary."""
_HARMONICS = 9


def llm_tensors(dims: LlmDims) -> Shapes:
    """The language model; the head is the embedding's."""
    width, queries, keys = dims.hidden, dims.heads * dims.head_dim, dims.kv_heads * dims.head_dim
    shapes: Shapes = {
        "model.embed_tokens.weight": (dims.vocab, width),
        "model.norm.weight": (width,),
    }
    for layer in range(dims.layers):
        shapes |= _below(
            f"model.layers.{layer}",
            {
                "input_layernorm.weight": (width,),
                "self_attn.q_proj.weight": (queries, width),
                "self_attn.k_proj.weight": (keys, width),
                "self_attn.v_proj.weight": (keys, width),
                "self_attn.o_proj.weight": (width, queries),
                "post_attention_layernorm.weight": (width,),
                "mlp.gate_proj.weight": (dims.intermediate, width),
                "mlp.up_proj.weight": (dims.intermediate, width),
                "mlp.down_proj.weight": (width, dims.intermediate),
            },
        )
    return shapes


def flow_tensors(dims: FlowDims) -> Shapes:
    """The diffusion transformer, each name under `estimator.`."""
    width, tokens = dims.width, dims.token_width
    shapes: Shapes = {
        "text_emb_layer.text_embed.weight": (dims.token_table, tokens),
        "rotary_embed.inv_freq": (dims.head_dim // 2,),
        **_layer("time_embed.time_mlp.0", width, dims.time_width),
        **_layer("time_embed.time_mlp.2", width, width),
        **_layer("emb_concator.proj", width, 2 * dims.mels + tokens),
        **_layer("emb_concator.conv_pos_embed.conv1d.0", width, width // 16, 31),
        **_layer("emb_concator.conv_pos_embed.conv1d.2", width, width // 16, 31),
        **_layer("norm_out.linear", 2 * width, width + dims.speaker),
        **_layer("proj_out", dims.mels, width),
    }
    for block in range(dims.conv_layers):
        shapes |= _below(f"text_emb_layer.text_blocks.{block}", _token_block(tokens))
    for block in range(dims.depth):
        shapes |= _below(f"transformer_blocks.{block}", _transformer_block(dims))
    return _below("estimator", shapes)


def hift_tensors(dims: HiftDims) -> Shapes:
    """The vocoder, weight norm by its newer names; see `newer_name`."""
    f0 = dims.f0_width
    shapes: Shapes = {
        **_normed_layer("conv_pre", dims.base, dims.base, dims.mels, 7),
        **_normed_layer("conv_post", _SPECTRUM, _SPECTRUM, dims.base // 8, 7),
        **_layer("m_source.l_linear", 1, _HARMONICS),
        **_normed_layer("f0_predictor.condnet.0", f0, f0, dims.mels, 3),
        **_layer("f0_predictor.classifier", 1, f0),
    }
    for layer in (2, 4, 6, 8):
        shapes |= _normed_layer(f"f0_predictor.condnet.{layer}", f0, f0, f0, 3)
    for stage in range(3):
        before, width = dims.base >> stage, dims.base >> (stage + 1)
        kernel = _UPSAMPLING_KERNELS[stage]
        # Transposed: the input's channels come first, the bias is the output's.
        shapes |= _normed_layer(f"ups.{stage}", width, before, width, kernel)
        shapes |= _layer(f"source_downs.{stage}", width, _SPECTRUM, _SOURCE_DOWN_KERNELS[stage])
        shapes |= _residual_block(f"source_resblocks.{stage}", width, _SOURCE_KERNELS[stage])
        for branch, kernel in enumerate(_RESIDUAL_KERNELS):
            shapes |= _residual_block(f"resblocks.{3 * stage + branch}", width, kernel)
    return shapes


def speech_tokenizer_tensors(dims: SpeechTokenizerDims) -> Shapes:
    """The encoder as far as it runs, without the file's prefix `model.encoder.`."""
    width = dims.width
    shapes: Shapes = {
        **_layer("conv1", width, dims.mels, 3),
        **_layer("conv2", width, width, 3),
        "embed_positions.weight": (dims.positions, width),
        "codebook.weight": (dims.codes, width),
    }
    for layer in range(dims.layers):
        shapes |= _below(
            f"layers.{layer}",
            {
                **_layer("self_attn.q_proj", width, width),
                "self_attn.k_proj.weight": (width, width),
                **_layer("self_attn.v_proj", width, width),
                **_layer("self_attn.out_proj", width, width),
                **_layer("self_attn_layer_norm", width),
                **_layer("final_layer_norm", width),
                **_layer("fc1", dims.ff, width),
                **_layer("fc2", width, dims.ff),
            },
        )
    return shapes


def fold_weight_norm(weights: Mapping[str, Tensor]) -> Weights:
    """Replace each gain and direction by their product, `X.weight`.

    Args:
        weights: A part's tensors, weight norm by either of its names.
    Returns:
        The same tensors where there is no weight norm.
    """
    newer = {newer_name(name): tensor for name, tensor in weights.items()}
    folded: Weights = {}
    for name, tensor in newer.items():
        if name.endswith(_GAIN):
            layer = name.removesuffix(_GAIN)
            direction = newer[layer + _DIRECTION]
            norm = torch.linalg.vector_norm(direction, dim=(1, 2), keepdim=True)
            folded[f"{layer}.weight"] = direction * (tensor / norm)
        elif not name.endswith(_DIRECTION):
            folded[name] = tensor
    return folded


def newer_name(name: str) -> str:
    """A tensor's name in torch's newer spelling of weight norm; any other stays as it is."""
    for older, newer in ((".weight_g", _GAIN), (".weight_v", _DIRECTION)):
        if name.endswith(older):
            return name.removesuffix(older) + newer
    return name


def _token_block(width: int) -> Shapes:
    return {
        **_layer("dwconv", width, 1, 7),
        **_layer("norm", width),
        **_layer("pwconv1", 2 * width, width),
        **_layer("pwconv2", width, 2 * width),
        "grn.gamma": (1, 1, 2 * width),
        "grn.beta": (1, 1, 2 * width),
    }


def _transformer_block(dims: FlowDims) -> Shapes:
    width, inner = dims.width, dims.ff_mult * dims.width
    return {
        **_layer("attn_norm.linear", 6 * width, width + dims.speaker),
        **_layer("attn.to_q", width, width),
        **_layer("attn.to_k", width, width),
        **_layer("attn.to_v", width, width),
        **_layer("attn.to_out.0", width, width),
        **_layer("ff.ff.0.0", inner, width),
        **_layer("ff.ff.2", width, inner),
    }


def _residual_block(name: str, width: int, kernel: int) -> Shapes:
    shapes: Shapes = {}
    for side in (1, 2):
        for step in range(3):
            shapes |= _normed_layer(f"{name}.convs{side}.{step}", width, width, width, kernel)
            shapes[f"{name}.activations{side}.{step}.alpha"] = (width,)
    return shapes


def _layer(name: str, out: int, *rest: int) -> Shapes:
    return {f"{name}.weight": (out, *rest), f"{name}.bias": (out,)}


def _normed_layer(name: str, bias: int, *direction: int) -> Shapes:
    return {
        f"{name}.bias": (bias,),
        name + _GAIN: (direction[0], 1, 1),
        name + _DIRECTION: direction,
    }


def _below(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}
