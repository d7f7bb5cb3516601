from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.glm_tts.dims import Rates
from engine.glm_tts.mel import MelSpectrogram, WhisperSpectrogram, slaney_filters
from engine.tests.glm_tts.goldens import golden

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clips() -> dict[str, Tensor]:
    return golden("audio_mel_resample")


def test_filters_as_the_original(clips: dict[str, Tensor]) -> None:
    for n_fft, rate, wanted in (
        (1920, 24_000, clips["basis24"]),
        (2560, 32_000, clips["basis32"]),
        (400, 16_000, golden("whisper_features")["mel_filters"].T),
    ):
        filters = slaney_filters(len(wanted), n_fft, rate)
        torch.testing.assert_close(filters, wanted, atol=1e-8, rtol=1e-5)


def test_both_rates_in_one_process_as_the_original(clips: dict[str, Tensor]) -> None:
    for rate in (24, 32, 24):
        spectrogram = MelSpectrogram(Rates(sample_rate=rate * 1000), CPU)
        mel = spectrogram(clips[f"wav{rate}"])
        torch.testing.assert_close(mel.mT, clips[f"mel{rate}"], atol=1e-5, rtol=0)


def test_silence_is_the_floor() -> None:
    mel = MelSpectrogram(Rates(), CPU)(torch.zeros(1, 4800))
    assert mel.shape == (1, 10, 80)
    assert mel.max() < -6


def test_rows_of_a_batch_are_heard_alone(clips: dict[str, Tensor]) -> None:
    audio = torch.cat((clips["wav24"], clips["wav24"].flip(1)))
    spectrogram = MelSpectrogram(Rates(), CPU)
    torch.testing.assert_close(spectrogram(audio)[1:], spectrogram(audio[1:]))


def test_whisper_features_as_the_original() -> None:
    clips = golden("whisper_features")
    first, second = clips["wav_a"], clips["wav_b"]
    spectrogram = WhisperSpectrogram(128, CPU)
    padded = torch.stack((first, torch.cat((second, second.new_zeros(16_000 - 11_111)))))
    torch.testing.assert_close(spectrogram(padded), clips["features"], atol=1e-5, rtol=0)
