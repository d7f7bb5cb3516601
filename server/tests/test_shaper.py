"""Shaper: length, pitch, level, and that the cuts between chunks leave no trace."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from av.audio import AudioFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.types import Samples
from server.audio.filters import FilterChain
from server.audio.shaper import Shaper

PITCH_HZ = 440.0
RATES = [(22_050, 24_000), (24_000, 16_000), (16_000, 48_000), (24_000, 24_000)]
TEMPOS = [0.25, 0.5, 0.8, 1.0, 1.3, 2.0, 4.0]


def tone(length: int, rate: int) -> Samples:
    return (0.5 * np.sin(2 * np.pi * PITCH_HZ * np.arange(length) / rate)).astype(np.float32)


def shape(shaper: Shaper, parts: list[npt.NDArray[np.float32]]) -> Samples:
    return np.concatenate([*(shaper.push(part) for part in parts), shaper.flush()])


def chunks(clip: Samples, rate: int) -> list[npt.NDArray[np.float32]]:
    """Of 40 ms, as an engine gives them."""
    return np.split(clip, range(rate // 25, len(clip), rate // 25))


def pitch_hz(clip: Samples, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(clip * np.hanning(len(clip)), 8 * len(clip)))
    return float(np.argmax(spectrum)) * rate / (8 * len(clip))


@pytest.mark.parametrize(("in_rate", "out_rate"), RATES)
@pytest.mark.parametrize("tempo", TEMPOS)
@pytest.mark.parametrize("length", [100, 3_000, 44_103])
def test_length_is_right_to_the_sample(
    in_rate: int, out_rate: int, tempo: float, length: int
) -> None:
    shaped = shape(Shaper(in_rate, out_rate, tempo), chunks(tone(length, in_rate), in_rate))
    assert len(shaped) == pytest.approx(length * out_rate / in_rate / tempo, abs=1)


@pytest.mark.parametrize(("in_rate", "out_rate"), RATES)
@pytest.mark.parametrize("tempo", TEMPOS)
def test_pitch_and_level_are_kept(in_rate: int, out_rate: int, tempo: float) -> None:
    shaped = shape(Shaper(in_rate, out_rate, tempo), chunks(tone(2 * in_rate, in_rate), in_rate))
    assert pitch_hz(shaped, out_rate) == pytest.approx(PITCH_HZ, abs=2)
    # Of each 10 ms but the last few, where slow speech fades into the silence behind it.
    windows = shaped[: len(shaped) // 100 * 97]
    windows = windows[: len(windows) // (out_rate // 100) * (out_rate // 100)]
    level = np.sqrt((windows.reshape(-1, out_rate // 100) ** 2).mean(axis=1))
    assert level.max() < 0.5 / np.sqrt(2) * 1.05
    assert level.min() > 0.5 / np.sqrt(2) * 0.9


def test_resampling_a_sine_gives_that_sine() -> None:
    shaped = shape(Shaper(22_050, 24_000), chunks(tone(22_050, 22_050), 22_050))
    inner = slice(100, -100)  # the ends meet the silence around the clip
    np.testing.assert_allclose(shaped[inner], tone(24_000, 24_000)[inner], atol=2e-3)


@pytest.mark.parametrize("tempo", [0.25, 1.0, 1.3, 4.0])
@given(cuts=st.lists(st.integers(0, 20_000), max_size=8))
@settings(max_examples=8, deadline=None)
def test_streamed_equals_whole(tempo: float, cuts: list[int]) -> None:
    noise = np.random.default_rng(5).uniform(-0.5, 0.5, 20_000).astype(np.float32)
    streamed = shape(Shaper(22_050, 24_000, tempo), np.split(noise, sorted(cuts)))
    whole = shape(Shaper(22_050, 24_000, tempo), [noise])
    np.testing.assert_allclose(streamed, whole, atol=1e-6)


@pytest.mark.parametrize("tempo", TEMPOS)
def test_audio_comes_out_while_it_goes_in(tempo: float) -> None:
    shaper = Shaper(22_050, 24_000, tempo)
    given = sum(len(shaper.push(part)) for part in chunks(tone(22_050, 22_050), 22_050))
    held_back_s = 1.0 - given / 24_000 * tempo
    assert held_back_s < 0.25


def test_same_rate_and_tempo_hand_the_samples_through() -> None:
    clip = tone(960, 24_000)
    shaper = Shaper(24_000, 24_000)
    assert shaper.push(clip) is clip
    assert len(shaper.flush()) == 0


def test_nothing_in_is_nothing_out() -> None:
    shaper = Shaper(22_050, 24_000, 2.0)
    assert len(shaper.push(np.zeros(0, np.float32))) == 0
    assert len(shaper.flush()) == 0


@pytest.mark.parametrize("tempo", TEMPOS)
def test_the_last_word_is_not_lost(tempo: float) -> None:
    clip = np.zeros(22_050, np.float32)
    clip[-2_205:] = tone(2_205, 22_050)
    shaped = shape(Shaper(22_050, 24_000, tempo), chunks(clip, 22_050))
    last = shaped[-round(2_400 / tempo) :]
    assert np.sqrt(np.square(last).mean()) > 0.8 * 0.5 / np.sqrt(2)


def test_a_chunk_of_one_sample_is_taken_at_any_tempo() -> None:
    clip = tone(3_000, 24_000)
    for tempo in TEMPOS:
        shaped = shape(Shaper(24_000, 24_000, tempo), np.split(clip, [1, 2, 2_999]))
        assert len(shaped) == pytest.approx(3_000 / tempo, abs=1)


def test_a_long_chunk_is_filtered_in_short_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """The filters keep room for the longest one, for as long as the stream lasts."""
    frames: list[int] = []
    push = FilterChain.push

    def counted(chain: FilterChain, frame: AudioFrame) -> Samples:
        frames.append(frame.samples)
        return push(chain, frame)

    monkeypatch.setattr(FilterChain, "push", counted)
    shaper = Shaper(22_050, 24_000, 0.5)
    clip = tone(4 * 22_050 + 1, 22_050)
    shape(shaper, [clip])
    assert max(frames) <= 22_050
    assert sum(frames) >= len(clip)
