"""How somebody speaks: pitch, its range and the pace, measured with numpy alone.

Pitch by the normalised autocorrelation of short frames, syllables by the peaks of the loudness of
the vowels' band. Good for "which pitch, how lively, how fast", not for telling people apart.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Samples = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

_LOWEST_HZ, _HIGHEST_HZ = 60.0, 400.0
_FRAME_S, _HOP_S = 0.04, 0.01
_VOICED = 0.6
"""Height of the autocorrelation's peak from which a frame counts as voiced."""
_SILENT_DB = -35.0
"""Below the loudest frame by this much is silence."""
_LEAST_VOICED_FRAMES = 20
_VOWELS_HZ = (300.0, 2300.0)
_SYLLABLE_GAP_S = 0.1
_SYLLABLE_DIP_DB = 2.0


class Prosody(Struct, frozen=True, kw_only=True):
    """None where too little of the recording is voiced to tell."""

    pitch_hz: float | None = None
    """Median."""
    pitch_span_semitones: float | None = None
    """Between the 10th and the 90th percentile."""
    syllables_per_s: float | None = None
    """While speaking: pauses left out."""


def measure_prosody(samples: Samples, sample_rate: int) -> Prosody:
    """Measure one person's speech.

    Args:
        samples: Float32 mono [T] in [-1, 1]; some seconds of it.
        sample_rate: Hz; 8000 or more.
    """
    frames = _frames(samples, sample_rate)
    level_db = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)
    is_loud = level_db > level_db.max(initial=-120.0) + _SILENT_DB
    pitches = _pitches(frames[is_loud], sample_rate)
    if len(pitches) < _LEAST_VOICED_FRAMES:
        return Prosody()
    low, median, high = np.percentile(pitches, (10, 50, 90))
    speaking_s = float(is_loud.sum()) * _HOP_S
    return Prosody(
        pitch_hz=round(float(median), 1),
        pitch_span_semitones=round(12 * float(np.log2(high / low)), 1),
        syllables_per_s=round(_syllables(samples, sample_rate) / speaking_s, 2),
    )


def _frames(samples: Samples, sample_rate: int) -> Samples:
    """[N, F] overlapping frames; at least one, of zeros if need be."""
    size, hop = int(_FRAME_S * sample_rate), int(_HOP_S * sample_rate)
    padded = np.pad(samples, (0, max(0, size - len(samples))))
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]


def _pitches(frames: Samples, sample_rate: int) -> Floats:
    """Hz of each voiced frame, octave errors left out."""
    if len(frames) == 0:
        return np.zeros(0)
    size = frames.shape[1]
    windowed = (frames - frames.mean(axis=1, keepdims=True)) * np.hanning(size)
    first, last = int(sample_rate / _HIGHEST_HZ), int(sample_rate / _LOWEST_HZ)
    correlation = _autocorrelation(windowed)
    lags = correlation[:, first:last] / (correlation[:, :1] + 1e-12)
    # The window's own autocorrelation makes long lags look weaker than they are.
    window = _autocorrelation(np.hanning(size)[None])[0]
    lags *= window[0] / window[first:last]
    peaks = lags.max(axis=1)
    # The first lag about as good as the best one: its multiples are as good again.
    chosen = np.argmax(lags >= 0.9 * peaks[:, None], axis=1)
    chosen = _climb(lags, chosen)
    hz: Floats = sample_rate / (first + chosen[peaks >= _VOICED].astype(np.float64))
    middle = np.median(hz) if len(hz) else 0.0
    near: Floats = hz[(hz > middle / 1.8) & (hz < middle * 1.8)]
    return near


def _climb(lags: Floats, start: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """From the edge of a peak to its top."""
    rows = np.arange(len(lags))
    chosen = start.copy()
    for _ in range(lags.shape[1]):
        following = np.minimum(chosen + 1, lags.shape[1] - 1)
        is_higher = lags[rows, following] > lags[rows, chosen]
        if not is_higher.any():
            break
        chosen = np.where(is_higher, following, chosen)
    return chosen


def _autocorrelation(frames: npt.NDArray[np.floating]) -> Floats:
    size = frames.shape[1]
    spectrum = np.fft.rfft(frames, 2 * size, axis=1)
    correlation: Floats = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)
    kept: Floats = correlation[:, :size]
    return kept


def _syllables(samples: Samples, sample_rate: int) -> int:
    """Peaks of the loudness between 300 and 2300 Hz, each after a dip."""
    size, hop = int(0.064 * sample_rate), int(_HOP_S * sample_rate)
    padded = np.pad(samples, (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    hz = np.fft.rfftfreq(size, 1 / sample_rate)
    band = power[:, (hz >= _VOWELS_HZ[0]) & (hz <= _VOWELS_HZ[1])].sum(axis=1)
    level_db = 10 * np.log10(band + 1e-9)
    floor_db = level_db.max() - 25.0
    return _peaks(level_db, floor_db, int(_SYLLABLE_GAP_S / _HOP_S))


def _peaks(level_db: Floats, floor_db: float, gap: int) -> int:
    count, last = 0, -gap
    valley = highest = -np.inf
    is_rising = True
    for index, level in enumerate(level_db):
        if is_rising:
            highest = max(highest, level)
            if level < highest - _SYLLABLE_DIP_DB:
                if highest > floor_db and index - last >= gap:
                    count, last = count + 1, index
                is_rising, valley = False, level
        else:
            valley = min(valley, level)
            if level > valley + _SYLLABLE_DIP_DB:
                is_rising, highest = True, level
    return count
