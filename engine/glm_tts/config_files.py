"""Sizes and ids as a checkpoint's JSON files tell them.

A field that may have one value only says what the models were written for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from engine.errors import LoadFailed
from engine.glm_tts.dims import LlmDims, SpeechTokenizerDims, TokenIds

_Config = TypeVar("_Config", bound=Struct)


class _RopeParameters(Struct, frozen=True):
    rope_theta: float
    rope_type: Literal["default"] = "default"


class _LlmConfig(Struct, frozen=True):
    model_type: Literal["llama"]
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int
    rms_norm_eps: float
    max_position_embeddings: int
    tie_word_embeddings: Literal[True]
    hidden_act: Literal["silu"] = "silu"
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    head_dim: int | None = None
    rope_theta: float = 10_000.0
    rope_scaling: None = None
    rope_parameters: _RopeParameters | None = None
    """Where newer files have `rope_theta`."""


class _SpeechTokenizerConfig(Struct, frozen=True):
    d_model: int
    encoder_attention_heads: int
    encoder_ffn_dim: int
    num_mel_bins: int
    max_source_positions: int
    pooling_kernel_size: int
    quantize_position: int
    quantize_vocab_size: int
    quantize_causal_block_size: int
    pooling_position: int
    pooling_type: Literal["avg"] = "avg"
    activation_function: Literal["gelu"] = "gelu"
    encoder_causal_attention: Literal[False] = False
    encoder_causal_convolution: Literal[False] = False
    quantize_causal_encoder: Literal[False] = False


class _AddedToken(Struct, frozen=True):
    content: str


class _TokenizerConfig(Struct, frozen=True):
    added_tokens_decoder: dict[int, _AddedToken]


def llm_dims(path: Path) -> LlmDims:
    """Of `llm/config.json`."""
    config = _decoded(path, _LlmConfig)
    rope = config.rope_parameters
    return LlmDims(
        hidden=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim or config.hidden_size // config.num_attention_heads,
        intermediate=config.intermediate_size,
        vocab=config.vocab_size,
        rope_theta=config.rope_theta if rope is None else rope.rope_theta,
        norm_eps=config.rms_norm_eps,
        max_positions=config.max_position_embeddings,
    )


def speech_tokenizer_dims(path: Path) -> SpeechTokenizerDims:
    """Of `speech_tokenizer/config.json`."""
    config = _decoded(path, _SpeechTokenizerConfig)
    if config.pooling_position != config.quantize_position:
        raise LoadFailed(
            f"{path}: pooling_position is {config.pooling_position}, and quantize_position "
            f"{config.quantize_position}: they should be the same"
        )
    return SpeechTokenizerDims(
        width=config.d_model,
        heads=config.encoder_attention_heads,
        ff=config.encoder_ffn_dim,
        layers=config.quantize_position,
        mels=config.num_mel_bins,
        positions=config.max_source_positions,
        pooling=config.pooling_kernel_size,
        codes=config.quantize_vocab_size,
        block=config.quantize_causal_block_size,
    )


def token_ids(path: Path, vocab: int, codes: int) -> TokenIds:
    """Of `tokenizer_config.json`.

    Args:
        path: Of the file.
        vocab: Rows of the language model's embedding.
        codes: Of the speech tokenizer.
    """
    added = _decoded(path, _TokenizerConfig).added_tokens_decoder
    ids = {token.content: index for index, token in added.items()}
    if ids and (highest := max(ids.values())) >= vocab:
        raise LoadFailed(f"{path} has the token {highest}, and the language model {vocab} in all")

    def of(content: str) -> int:
        if content not in ids:
            raise LoadFailed(f"{path} has no token {content}")
        return ids[content]

    first, last = of("<|audio_0|>"), of(f"<|audio_{codes - 1}|>")
    if last - first != codes - 1 or f"<|audio_{codes}|>" in ids:
        raise LoadFailed(
            f"{path}: the audio tokens from {first} on are not as many as the speech tokenizer's "
            f"{codes} codes"
        )
    return TokenIds(
        pad=of("<|endoftext|>"),
        end=of("<|user|>"),
        begin=of("<|begin_of_audio|>"),
        first_audio=first,
        audio_tokens=codes,
    )


def _decoded(path: Path, config: type[_Config]) -> _Config:
    try:
        return msgspec.json.decode(path.read_bytes(), type=config)
    except msgspec.DecodeError as exc:
        raise LoadFailed(f"{path}: {exc}") from exc
