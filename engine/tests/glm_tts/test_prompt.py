from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.errors import InvalidRequest
from engine.glm_tts.dims import TINY, Rates
from engine.glm_tts.golden_weights import golden_weights
from engine.glm_tts.prompt import PromptEncoder
from engine.glm_tts.speaker_encoder import MadeUpSpeakerEncoder
from engine.glm_tts.speech_tokenizer import SpeechTokenizer
from engine.glm_tts.tensors import speech_tokenizer_tensors
from engine.types import Samples, VoicePrompt


def encoder_at(sample_rate: int) -> PromptEncoder:
    dims = TINY.speech_tokenizer
    return PromptEncoder(
        Rates(sample_rate=sample_rate),
        SpeechTokenizer(dims, golden_weights("tiny.wvq.", speech_tokenizer_tensors(dims))),
        MadeUpSpeakerEncoder(seed=0),
        torch.device("cpu"),
    )


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    return encoder_at(24_000)


def tones(duration_s: float, sample_rate: int) -> Samples:
    times = np.arange(round(duration_s * sample_rate)) / sample_rate
    sound = np.sin(900 * times + 30 * np.sin(5 * times)) + np.sin(9000 * times)
    return np.asarray(sound / 8, np.float32)


def prompt_of(samples: Samples, sample_rate: int) -> VoicePrompt:
    return VoicePrompt(
        digest="d", samples=samples.tobytes(), sample_rate=sample_rate, text="What is said."
    )


@pytest.mark.parametrize("sample_rate", [24_000, 32_000])
def test_features_have_the_rates_of_the_model(sample_rate: int) -> None:
    prompt = prompt_of(tones(2.0, 44_100), 44_100)
    arrays = encoder_at(sample_rate).encode(prompt).arrays
    assert {name: (array.dtype.name, array.shape) for name, array in arrays.items()} == {
        "speech_tokens": ("int32", (50,)),
        "mel": ("float32", (100, 80)),
        "speaker": ("float32", (192,)),
    }
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_same_prompt_has_the_same_features(encoder: PromptEncoder) -> None:
    prompt = prompt_of(tones(1.0, 24_000), 24_000)
    first, second = encoder.encode(prompt).arrays, encoder.encode(prompt).arrays
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_rate_of_the_recording_makes_no_difference(encoder: PromptEncoder) -> None:
    low, high = (
        torch.from_numpy(encoder.encode(prompt_of(tones(1.0, rate), rate)).arrays["mel"])
        for rate in (24_000, 48_000)
    )
    is_loud = low > -3
    assert is_loud.sum() > 100
    torch.testing.assert_close(high[is_loud], low[is_loud], atol=0.02, rtol=0)


def test_too_short_a_recording_is_refused(encoder: PromptEncoder) -> None:
    with pytest.raises(InvalidRequest, match=r"lasts 0\.49 s; at least 0\.5 s") as caught:
        encoder.encode(prompt_of(tones(0.49, 16_000), 16_000))
    assert caught.value.param == "voice"
    encoder.encode(prompt_of(tones(0.5, 16_000), 16_000))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_numbers_are_refused(encoder: PromptEncoder, value: float) -> None:
    samples = tones(1.0, 24_000)
    samples[700] = value
    with pytest.raises(InvalidRequest, match="not finite") as caught:
        encoder.encode(prompt_of(samples, 24_000))
    assert caught.value.param == "voice"
