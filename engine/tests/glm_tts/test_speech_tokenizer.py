from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.glm_tts.dims import TINY, SpeechTokenizerDims
from engine.glm_tts.golden_weights import golden_weights
from engine.glm_tts.speech_tokenizer import SpeechTokenizer
from engine.glm_tts.tensors import speech_tokenizer_tensors
from engine.tests.glm_tts.goldens import golden

DIMS = SpeechTokenizerDims(
    width=64, heads=4, ff=128, layers=4, mels=16, positions=100, codes=48, block=8
)
PIECE = 32_000
"""Samples of 100 positions."""


def tokenizer_of(dims: SpeechTokenizerDims) -> SpeechTokenizer:
    return SpeechTokenizer(dims, golden_weights("tiny.wvq.", speech_tokenizer_tensors(dims)))


@pytest.fixture(scope="module")
def tokenizer() -> SpeechTokenizer:
    return tokenizer_of(DIMS)


@pytest.fixture(scope="module")
def vectors() -> dict[str, Tensor]:
    return golden("whispervq_tiny")


def assert_near(actual: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(actual, wanted, atol=1e-5, rtol=1e-5)


def noise(samples: int) -> Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(7)) / 10


@pytest.mark.parametrize("case", ["b2", "f84", "short"])
def test_encoder_and_codes_as_the_original(
    tokenizer: SpeechTokenizer, vectors: dict[str, Tensor], case: str
) -> None:
    features = vectors[f"{case}.features"]
    is_heard = vectors[f"{case}.attention_mask"].bool()
    is_token = vectors[f"{case}.ids_mask"].bool()
    pooled = tokenizer.forward(features, is_heard)
    assert_near(pooled, vectors[f"{case}.pre_vq"])
    assert torch.equal(tokenizer.codes(pooled)[is_token], vectors[f"{case}.ids"][is_token])
    torch.testing.assert_close(
        tokenizer.margins(pooled).flatten(), vectors[f"{case}.margin"], atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("case", ["b2", "f84", "short"])
def test_layers_as_the_original(
    tokenizer: SpeechTokenizer, vectors: dict[str, Tensor], case: str
) -> None:
    hidden = tokenizer._embed(vectors[f"{case}.features"])
    visible = tokenizer._visible(vectors[f"{case}.attention_mask"].bool())
    states = []
    for layer in tokenizer._layers:
        hidden = layer(hidden, visible)
        states.append(hidden)
    for index in (0, 3):
        assert_near(states[index], vectors[f"{case}.layer{index}"])


def test_clips_are_padded_to_the_longest_and_masked_as_the_original() -> None:
    clips = golden("whisper_features")
    tokenizer = tokenizer_of(TINY.speech_tokenizer)
    features, is_heard = tokenizer.features([clips["wav_a"], clips["wav_b"]])
    assert_near(features, clips["features"])
    assert torch.equal(is_heard, clips["attention_mask"].bool())


def test_clip_is_padded_to_whole_tokens_as_the_original() -> None:
    clips = golden("whisper_features")
    features, is_heard = tokenizer_of(TINY.speech_tokenizer).features([clips["wav_b"]])
    assert_near(features, clips["features_b_alone"])
    assert torch.equal(is_heard, clips["mask_b_alone"].bool())


@pytest.mark.parametrize(
    ("samples", "tokens"), [(1, 1), (640, 1), (641, 2), (PIECE, 50), (PIECE + 640, 51)]
)
def test_a_token_for_every_640_samples(
    tokenizer: SpeechTokenizer, samples: int, tokens: int
) -> None:
    codes = tokenizer.encode(noise(samples))
    assert codes.shape == (tokens,)
    assert codes.dtype == torch.int64


def test_piece_does_not_hear_the_next(tokenizer: SpeechTokenizer) -> None:
    audio = noise(PIECE + 5000)
    assert torch.equal(tokenizer.encode(audio)[:50], tokenizer.encode(audio[:PIECE]))


def test_frame_sees_its_block_but_not_the_next(
    tokenizer: SpeechTokenizer, vectors: dict[str, Tensor]
) -> None:
    features = vectors["f84.features"]
    is_heard = torch.ones(1, 84, dtype=torch.bool)
    changed = features.clone()
    changed[..., 60] += 1  # frames 30 and 31 of 50 Hz, the last two of their block
    before, after = (tokenizer.forward(each, is_heard)[0] for each in (features, changed))
    is_same = torch.isclose(before, after, atol=1e-6, rtol=0).all(1)
    assert is_same.tolist() == [True] * 12 + [False] * 9


def test_first_of_equal_codes_wins() -> None:
    weights = golden_weights("tiny.wvq.", speech_tokenizer_tensors(DIMS))
    codebook = weights["codebook.weight"]
    codebook[40] = codebook[3]
    tokenizer = SpeechTokenizer(DIMS, weights)
    assert tokenizer.codes(codebook[None, 38:42]).tolist() == [[38, 39, 3, 41]]
    assert tokenizer.margins(codebook[None, 40:41]).item() == 0
