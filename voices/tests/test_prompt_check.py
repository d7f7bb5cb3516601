"""The check of a prompt: true numbers, and a reason for every refusal."""

from __future__ import annotations

import numpy as np
import pytest

from voices.errors import PromptRefused
from voices.flac import to_pcm16, to_samples
from voices.profile import Samples
from voices.prompt_check import LEVEL_DBFS, PEAK_DBFS, check_prompt
from voices.tests.samples import RATE, noise, speech


def silence(duration_s: float, rate: int = RATE) -> Samples:
    return np.zeros(round(duration_s * rate), dtype=np.float32)


def level_dbfs(samples: Samples) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


def test_good_recording_passes_without_a_word() -> None:
    given = speech(5) + 0.001 * noise(5)
    checked = check_prompt(given, RATE)
    report = checked.report
    assert report.warnings == ()
    assert checked.sample_rate == RATE
    assert checked.samples.dtype == np.float32
    assert len(checked.samples) == round(report.duration_s * RATE)
    assert report.level_dbfs == pytest.approx(-20.0, abs=1)
    assert report.peak_dbfs == pytest.approx(20 * np.log10(np.abs(given).max()), abs=0.01)
    assert report.clipped_share == 0


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000])
def test_recording_keeps_its_rate_and_a_low_one_is_warned_of(rate: int) -> None:
    checked = check_prompt(speech(4, rate) + 0.001 * noise(4, rate), rate)
    assert checked.sample_rate == rate
    assert [f"{rate} Hz" in text for text in checked.report.warnings] == [True] * (rate < 24_000)


@pytest.mark.parametrize("noise_level", [0.0, 0.001, 0.01])
@pytest.mark.parametrize(("before_s", "after_s"), [(0.0, 2.0), (1.5, 0.0), (1.0, 20.0)])
def test_silence_around_speech_is_cut_and_counted(
    noise_level: float, before_s: float, after_s: float
) -> None:
    given = np.concatenate([silence(before_s), speech(5.5), silence(after_s)])
    report = check_prompt(given + noise_level * noise(len(given) / RATE), RATE).report
    assert report.trimmed_start_s == pytest.approx(max(0, before_s - 0.1), abs=0.06)
    assert report.trimmed_end_s == pytest.approx(max(0, after_s - 0.1), abs=0.06)
    total_s = report.duration_s + report.trimmed_start_s + report.trimmed_end_s
    assert total_s == pytest.approx(report.given_duration_s)
    assert report.given_duration_s == pytest.approx(len(given) / RATE)


@pytest.mark.parametrize("given_dbfs", [-45.0, -30.0, -15.0])
def test_level_is_brought_to_a_common_one_within_the_peaks(given_dbfs: float) -> None:
    checked = check_prompt(speech(5, level_dbfs=given_dbfs), RATE)
    loudest = 20 * np.log10(np.abs(checked.samples).max())
    assert loudest <= PEAK_DBFS + 0.01
    spoken = checked.samples[np.abs(checked.samples) > 0]
    is_at_level = level_dbfs(spoken) == pytest.approx(LEVEL_DBFS, abs=1)
    assert is_at_level or loudest == pytest.approx(PEAK_DBFS, abs=0.01)
    assert checked.report.gain_db == pytest.approx(
        level_dbfs(spoken) - checked.report.level_dbfs, abs=1
    )
    is_quiet = any("quiet" in text for text in checked.report.warnings)
    assert is_quiet == (given_dbfs < -40)


@pytest.mark.parametrize("snr_db", [3, 10, 20, 30, 40])
def test_snr_is_estimated_within_three_decibels(snr_db: int) -> None:
    given = speech(8, level_dbfs=-20)
    added = noise(8) * 10 ** (-snr_db / 20)
    report = check_prompt(given + added, RATE).report
    assert report.snr_db == pytest.approx(snr_db, abs=3)
    assert any("over the noise" in text for text in report.warnings) == (snr_db < 15)


def test_share_of_silence_is_that_of_the_pauses() -> None:
    spoken = np.concatenate([speech(1.6), silence(3), speech(1.6)])
    report = check_prompt(spoken + 0.001 * noise(6.2), RATE).report
    assert report.silence_share == pytest.approx((3 + 2 * 7 * 0.03) / 6.2, abs=0.06)
    assert any("pauses" in text for text in report.warnings)


def test_clipping_is_counted_warned_of_and_at_last_refused() -> None:
    given = speech(5)
    loudest = np.abs(given).max()
    little = np.clip(given / loudest * 1.15, -1, 1).astype(np.float32)
    report = check_prompt(little, RATE).report
    assert 0.0005 < report.clipped_share < 0.05
    assert any("clipped" in text for text in report.warnings)
    with pytest.raises(PromptRefused, match="clipped"):
        check_prompt(np.clip(given * 100, -1, 1), RATE)


def test_lone_peak_at_full_scale_is_not_clipping() -> None:
    given = speech(5)
    given[:: RATE // 10] = 1.0
    assert check_prompt(given, RATE).report.clipped_share == 0


def test_long_recording_is_warned_of() -> None:
    assert "12.4 s is long" in check_prompt(speech(12.4), RATE).report.warnings[0]


@pytest.mark.parametrize(
    ("given", "rate", "reason"),
    [
        (silence(0), RATE, "lasts 0.0 s"),
        (speech(2.5), RATE, "lasts 2.[0-9] s"),
        (np.concatenate([silence(5), speech(1), silence(5)]), RATE, "lasts 1.[0-9] s"),
        (speech(32), RATE, "lasts 3[12].[0-9] s"),
        (silence(5), RATE, "silent"),
        (noise(5) * 1e-3, RATE, "silent"),
        (np.broadcast_to(np.float32(0), 7200 * 48_000), 48_000, "lasts 7200.0 s"),
        (np.full(5 * RATE, np.nan, np.float32), RATE, "not finite"),
        (np.full(5 * RATE, np.inf, np.float32), RATE, "not finite"),
        (speech(5, 7_999), 7_999, "sample rate is 7999 Hz"),
        (speech(5), 0, "sample rate is 0 Hz"),
        (silence(5), 384_000, "sample rate is 384000 Hz"),
    ],
)
def test_useless_recording_is_refused_with_a_reason(given: Samples, rate: int, reason: str) -> None:
    with pytest.raises(PromptRefused, match=reason) as caught:
        check_prompt(given, rate)
    assert caught.value.param == "audio_sample"


def test_what_is_kept_needs_no_rounding_to_be_stored() -> None:
    samples = check_prompt(speech(5), RATE).samples
    np.testing.assert_array_equal(to_samples(to_pcm16(samples)), samples)
