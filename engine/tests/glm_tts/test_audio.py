from __future__ import annotations

import pytest
import torch

from engine.glm_tts.audio import kaldi_fbank, resample
from engine.tests.glm_tts.goldens import golden

RATES = [
    (24_000, 16_000),
    (44_100, 16_000),
    (44_100, 24_000),
    (48_000, 24_000),
    (16_000, 24_000),
    (32_000, 24_000),
]


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_resampled_as_the_original(from_hz: int, to_hz: int) -> None:
    clips = golden("audio_mel_resample")
    given, wanted = (clips[f"resample.{from_hz}_{to_hz}.{side}"] for side in ("in", "out"))
    torch.testing.assert_close(resample(given, from_hz, to_hz), wanted, atol=1e-6, rtol=0)


def test_same_rate_leaves_audio_alone() -> None:
    audio = torch.randn(2, 100, generator=torch.Generator().manual_seed(1))
    assert torch.equal(resample(audio, 16_000, 16_000), audio)


def test_rate_without_common_factor_is_rounded() -> None:
    # Exactly, its weights would take 6 GB.
    times = torch.arange(47_999) / 47_999
    tone = resample(torch.sin(2 * torch.pi * 100 * times), 47_999, 16_000)
    wanted = torch.sin(2 * torch.pi * 100 * torch.arange(len(tone)) / 16_000)
    assert len(tone) == 16_000
    torch.testing.assert_close(tone[50:-50], wanted[50:-50], atol=0.02, rtol=0)


@pytest.mark.parametrize("clip", ["a", "b"])
def test_fbank_as_the_original(clip: str) -> None:
    clips = golden("kaldi_fbank")
    fbank = kaldi_fbank(clips[f"{clip}.wav16"])
    torch.testing.assert_close(fbank, clips[f"{clip}.fbank"], atol=1e-4, rtol=0)
