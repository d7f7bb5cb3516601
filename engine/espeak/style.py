"""A person's pitch, range and pace, as nearly as the library can follow them. Not a clone.

The constants are measured (default data, en-US, on the library's own speech): pitch is followed
within 5 % from 72 to 324 Hz, in Spanish too; Mandarin comes out some 12 % lower. The range follows
within 1.5 semitones up to 7, the pace within 5 % from 3.4 to 5.5 syllables a second.
"""

from __future__ import annotations

import math

from msgspec import Struct

from engine.types import VoiceStyle

_MIDDLE = 50
_MOST = 99
_LOW_VOICE, _LOW_HZ = "m3", 105.0
_HIGH_VOICE, _HIGH_HZ = "f2", 197.0
_BORDER_HZ = 150.0
# A step of the library's pitch is a 91st of an octave below the middle, a 67.5th above it.
_STEPS_DOWN, _STEPS_UP = 91.0, 67.5
_MIDDLE_SPAN = 5.0
"""Semitones at range 50."""
_MIDDLE_PACE = 5.0
"""Syllables a second at 175 words a minute."""
_PACE_EXPONENT = 1.3
_LEAST_WPM, _MOST_WPM = 110, 240


class StyleFit(Struct, frozen=True):
    """What the library is told."""

    variant: str | None = None
    """None: the voice's own."""
    pitch: int = _MIDDLE
    pitch_range: int = _MIDDLE
    words_per_minute: int | None = None
    """At speed 1; None: the usual."""


def fit_style(style: VoiceStyle) -> StyleFit:
    """The nearest that the library can do."""
    variant, pitch = None, _MIDDLE
    if style.pitch_hz is not None:
        is_low = style.pitch_hz < _BORDER_HZ
        variant, middle_hz = (_LOW_VOICE, _LOW_HZ) if is_low else (_HIGH_VOICE, _HIGH_HZ)
        octaves = math.log2(style.pitch_hz / middle_hz)
        pitch = _clamp(_MIDDLE + octaves * (_STEPS_UP if octaves > 0 else _STEPS_DOWN), 0, _MOST)
    pitch_range = _MIDDLE
    if style.pitch_span_semitones is not None:
        pitch_range = _clamp(_MIDDLE * style.pitch_span_semitones / _MIDDLE_SPAN, 0, _MOST)
    words_per_minute = None
    if style.syllables_per_s is not None:
        ratio = style.syllables_per_s / _MIDDLE_PACE
        words_per_minute = _clamp(175 * ratio**_PACE_EXPONENT, _LEAST_WPM, _MOST_WPM)
    return StyleFit(variant, pitch, pitch_range, words_per_minute)


def _clamp(value: float, least: int, most: int) -> int:
    return round(min(max(value, least), most))
