import numpy as np
import numpy.typing as npt
import pytest

from engine.config import EspeakOptions
from engine.espeak.style import StyleFit, fit_style
from engine.espeak.synthesizer import EspeakSynthesizer
from engine.types import Samples, SynthesisRequest, VoiceStyle

Hertz = npt.NDArray[np.float64]
TEXT = "Glue the sheet to the dark blue background."


@pytest.fixture(scope="module")
def engine() -> EspeakSynthesizer:
    engine = EspeakSynthesizer(EspeakOptions())
    assert "style" in engine.load("cpu").honours
    return engine


def spoken(engine: EspeakSynthesizer, style: VoiceStyle, voice: str | None = None) -> Samples:
    parts: list[Samples] = []
    job = engine.start(1, SynthesisRequest(text=TEXT, voice=voice, style=style))
    while job.stage is not None:
        engine.step(job.stage, [job], lambda output: parts.append(output.samples))
    return np.concatenate(parts)


def pitches(samples: Samples) -> Hertz:
    """Hz of the strongest period of each loud 40 ms."""
    size, first, last = 882, 22050 // 360, 22050 // 65
    frames = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    frames = frames[np.abs(frames).max(axis=1) > 0.3 * np.abs(samples).max()] * np.hanning(size)
    spectrum = np.abs(np.fft.rfft(frames, 2 * size)) ** 2
    lags = np.fft.irfft(spectrum)[:, :size]
    lags /= np.fft.irfft(np.abs(np.fft.rfft(np.hanning(size), 2 * size)) ** 2)[:size]
    window = lags[:, first:last]
    is_voiced = window.max(axis=1) > 0.6 * lags[:, 0]
    earliest = np.argmax(window >= 0.9 * window.max(axis=1, keepdims=True), axis=1)
    hz: Hertz = 22050 / (first + earliest[is_voiced])
    return hz


@pytest.mark.parametrize("hz", [85.0, 105.0, 140.0, 165.0, 200.0, 280.0])
def test_pitch_is_followed(engine: EspeakSynthesizer, hz: float) -> None:
    median = np.median(pitches(spoken(engine, VoiceStyle(pitch_hz=hz))))
    assert median == pytest.approx(hz, rel=0.12)


def test_range_is_followed(engine: EspeakSynthesizer) -> None:
    spans = []
    for semitones in (1.0, 7.0):
        style = VoiceStyle(pitch_hz=110.0, pitch_span_semitones=semitones)
        low, high = np.percentile(pitches(spoken(engine, style)), (10, 90))
        spans.append(12 * np.log2(high / low))
    assert spans[0] < 2.5
    assert spans[1] > spans[0] + 3


def test_pace_is_followed(engine: EspeakSynthesizer) -> None:
    slow, fast = (len(spoken(engine, VoiceStyle(syllables_per_s=rate))) for rate in (3.8, 5.5))
    assert slow / fast == pytest.approx(5.5 / 3.8, rel=0.15)


def test_variant_that_is_asked_for_is_kept(engine: EspeakSynthesizer) -> None:
    style = VoiceStyle(pitch_hz=105.0)
    named = spoken(engine, style, voice="en-us+m3")
    np.testing.assert_array_equal(named, spoken(engine, style))
    assert not np.array_equal(named[:5000], spoken(engine, style, voice="en-us+f5")[:5000])


def test_nothing_known_changes_nothing(engine: EspeakSynthesizer) -> None:
    assert fit_style(VoiceStyle()) == StyleFit()


@pytest.mark.parametrize("value", [0.01, 1e6])
def test_absurd_measures_are_followed_as_far_as_the_library_goes(
    engine: EspeakSynthesizer, value: float
) -> None:
    style = VoiceStyle(pitch_hz=value, pitch_span_semitones=value, syllables_per_s=value)
    assert len(spoken(engine, style)) > 10_000
