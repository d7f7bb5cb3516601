import numpy as np
import pytest

from voices.prosody import Samples, measure_prosody

RATE = 24_000


def voice(hz: Samples, syllables_per_s: float = 4.0) -> Samples:
    """Harmonics over a pitch curve [T], louder and softer as syllables come and go."""
    phase = 2 * np.pi * np.cumsum(hz) / RATE
    tone = np.sum([np.sin(k * phase) / k for k in range(1, 12)], axis=0)
    t = np.arange(len(hz)) / RATE
    envelope = 0.5 - 0.5 * np.cos(2 * np.pi * syllables_per_s * t)
    speech: Samples = (0.1 * tone * envelope).astype(np.float32)
    return speech


def steady(hz: float, seconds: float = 4.0) -> Samples:
    return np.full(int(seconds * RATE), hz, np.float32)


@pytest.mark.parametrize("hz", [75.0, 100.0, 150.0, 220.0, 330.0])
def test_pitch_is_that_of_the_voice_and_not_its_octave(hz: float) -> None:
    assert measure_prosody(voice(steady(hz)), RATE).pitch_hz == pytest.approx(hz, rel=0.02)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_sample_rate_makes_no_difference(rate: int) -> None:
    t = np.arange(3 * rate) / rate
    tone = np.sum([np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 8)], axis=0)
    assert measure_prosody((0.1 * tone).astype(np.float32), rate).pitch_hz == pytest.approx(
        120, rel=0.02
    )


def test_span_is_that_of_the_pitch_curve() -> None:
    t = np.arange(6 * RATE) / RATE
    curve = (150 * 2 ** (6 / 12 * np.sin(2 * np.pi * 0.5 * t))).astype(np.float32)
    prosody = measure_prosody(voice(curve), RATE)
    # The 10th and 90th percentile of a sine are at 0.95 of its swing.
    assert prosody.pitch_span_semitones == pytest.approx(2 * 6 * 0.95, abs=1.0)
    assert measure_prosody(voice(steady(150.0)), RATE).pitch_span_semitones == pytest.approx(
        0, abs=0.2
    )


@pytest.mark.parametrize("rate", [2.5, 4.0, 5.5])
def test_syllables_are_counted(rate: float) -> None:
    prosody = measure_prosody(voice(steady(130.0), rate), RATE)
    assert prosody.syllables_per_s is not None
    # Time between syllables that falls below the loudness of speech is not spoken time.
    assert rate * 0.95 <= prosody.syllables_per_s <= rate * 1.35


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.5, 3.0])
def test_what_has_no_pitch_is_not_given_one(seconds: float) -> None:
    samples = int(seconds * RATE)
    silence = np.zeros(samples, np.float32)
    noise = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
    for sound in (silence, noise):
        assert measure_prosody(sound, RATE).pitch_hz is None


def test_pauses_do_not_slow_the_pace() -> None:
    speech = voice(steady(120.0, 2.0))
    pause = np.zeros(2 * RATE, np.float32)
    with_pause = measure_prosody(np.concatenate([speech, pause, speech]), RATE)
    without = measure_prosody(np.concatenate([speech, speech]), RATE)
    assert with_pause.syllables_per_s == pytest.approx(without.syllables_per_s, rel=0.1)
