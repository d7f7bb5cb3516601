"""From a speed to the library's words per minute, so that durations come out right.

Asked for twice the words per minute, the library is a little more than twice as quick, as it
shortens pauses more than words. With the exponent below the duration of prose is 1 / speed of the
normal one within 3 % in English, French, Spanish and Hindi, 4 % in German and 8 % in Russian and
Mandarin, over the whole speed range and pauses included (measured at 175 words per minute).
"""

from __future__ import annotations

import math

_EXPONENT = 0.945
_SLOWEST, _FASTEST = 0.6, 1.5
_LEAST_WPM, _MOST_WPM = 80, 450


def words_per_minute(normal: int, speed: float) -> int:
    """What the library is told; `normal` is the pace at speed 1."""
    wanted = round(normal * math.pow(speed, _EXPONENT))
    return min(max(wanted, _LEAST_WPM), _MOST_WPM)


def speed_range(normal: int) -> tuple[float, float]:
    """The speeds at which durations hold and the library can follow."""
    slowest, fastest = (math.pow(wpm / normal, 1 / _EXPONENT) for wpm in (_LEAST_WPM, _MOST_WPM))
    return max(_SLOWEST, slowest), min(_FASTEST, fastest)
