"""Writes a small Whisper with random weights, as faster-whisper loads it from a folder.

It talks nonsense that depends on what it hears, and is otherwise like a real one: the same
tokens, timestamps, languages and code. With the dimensions of a real one it takes as long.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from ctranslate2.specs.whisper_spec import WhisperSpec
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

LANGUAGES = ("en", "zh", "de", "es")

_MEL_BINS = 80
_AUDIO_FRAMES = 1500
_TEXT_LENGTH = 448
_TIMESTAMPS = 1501


class Dimensions(NamedTuple):
    """Of the encoder and of the decoder alike."""

    width: int = 16
    layers: int = 1
    heads: int = 2
    words: int = 400
    """Entries of the vocabulary that are whole words."""


TINY = Dimensions()


def write_tiny_whisper(
    folder: Path, dimensions: Dimensions = TINY, *, is_multilingual: bool = True
) -> Path:
    """Make `folder` and fill it; about half a megabyte by default."""
    folder.mkdir(parents=True)
    tokenizer = _tokenizer(dimensions.words)
    tokenizer.save(str(folder / "tokenizer.json"))
    spec = _spec(dimensions, tokenizer)
    vocabulary = [tokenizer.id_to_token(each) for each in range(tokenizer.get_vocab_size())]
    # By this entry CTranslate2 tells a multilingual model: the English vocabulary has none.
    if is_multilingual:
        vocabulary[_id(tokenizer, "<|endoftext|>") - 1] = ""
    spec.register_vocabulary(vocabulary)
    spec.validate()
    spec.optimize()
    spec.save(str(folder))
    features = {"feature_size": _MEL_BINS, "sampling_rate": 16000, "chunk_length": 30}
    (folder / "preprocessor_config.json").write_text(json.dumps(features))
    return folder


def _tokenizer(words: int) -> Tokenizer:
    vocabulary = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary += [f"Ġw{n}" for n in range(words)]
    tokenizer = Tokenizer(
        models.BPE(vocab={token: n for n, token in enumerate(vocabulary)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["endoftext", "startoftranscript", *LANGUAGES, "translate", "transcribe"]
    special += ["startoflm", "startofprev", "nospeech", "notimestamps"]
    special += [f"{n * 0.02:.2f}" for n in range(_TIMESTAMPS)]
    tokenizer.add_special_tokens(
        [AddedToken(f"<|{name}|>", special=True, normalized=False) for name in special]
    )
    return tokenizer


def _id(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    assert found is not None
    return found


def _spec(dimensions: Dimensions, tokenizer: Tokenizer) -> WhisperSpec:
    width, layers, heads, _ = dimensions
    spec = WhisperSpec(layers, heads, layers, heads)
    weights = _Weights(width)
    encoder, decoder = spec.encoder, spec.decoder
    for conv, channels in ((encoder.conv1, _MEL_BINS), (encoder.conv2, width)):
        conv.weight = weights.random(width, channels, 3)
        conv.bias = weights.random(width)
    encoder.position_encodings.encodings = weights.random(_AUDIO_FRAMES, width)
    weights.fill_norm(encoder.layer_norm)
    for layer in encoder.layer:
        weights.fill_attention(layer.self_attention, (3, 1))
        weights.fill_feed_forward(layer.ffn)
    size = tokenizer.get_vocab_size()
    decoder.embeddings.weight = weights.random(size, width)
    decoder.position_encodings.encodings = weights.random(_TEXT_LENGTH, width)
    weights.fill_norm(decoder.layer_norm)
    decoder.projection.weight = decoder.embeddings.weight
    decoder.projection.bias = _token_bias(tokenizer, size)
    for layer in decoder.layer:
        weights.fill_attention(layer.self_attention, (3, 1))
        weights.fill_attention(layer.attention, (1, 2, 1))
        weights.fill_feed_forward(layer.ffn)
    end = _id(tokenizer, "<|endoftext|>")
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [end]
    spec.config.lang_ids = [_id(tokenizer, f"<|{code}|>") for code in LANGUAGES]
    spec.config.alignment_heads = [[0, 0]]
    return spec


def _token_bias(tokenizer: Tokenizer, size: int) -> npt.NDArray[np.float32]:
    """Lets sentences end: without it, timestamps outnumber all else, and nothing stops."""
    bias = np.zeros(size, np.float32)
    bias[_id(tokenizer, "<|0.00|>") :] = -3.0
    bias[_id(tokenizer, "<|endoftext|>")] = 3.5
    for code in LANGUAGES:  # they belong into the prompt only
        bias[_id(tokenizer, f"<|{code}|>")] = -20.0
    return bias


class _Weights:
    """Fills the parts of a specification, always with the same numbers."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._generator = np.random.default_rng(0)

    def random(self, *shape: int) -> npt.NDArray[np.float32]:
        scale = 2.0 * self._width**-0.5
        weights = self._generator.standard_normal(shape, np.float32)
        weights *= scale
        return weights

    def fill_norm(self, part: Any) -> None:
        part.gamma = np.ones(self._width, np.float32)
        part.beta = np.zeros(self._width, np.float32)

    def fill_attention(self, part: Any, widths: tuple[int, ...]) -> None:
        self.fill_norm(part.layer_norm)
        for linear, times in zip(part.linear, widths, strict=True):
            self._fill_linear(linear, times * self._width, self._width)

    def fill_feed_forward(self, part: Any) -> None:
        self.fill_norm(part.layer_norm)
        self._fill_linear(part.linear_0, 4 * self._width, self._width)
        self._fill_linear(part.linear_1, self._width, 4 * self._width)

    def _fill_linear(self, part: Any, outputs: int, inputs: int) -> None:
        part.weight = self.random(outputs, inputs)
        part.bias = np.zeros(outputs, np.float32)
