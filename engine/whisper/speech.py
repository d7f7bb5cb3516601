"""Where there is speech: the Silero model that faster-whisper brings along."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from faster_whisper.vad import (
    VadOptions,
    get_speech_timestamps,
)

from engine.errors import InvalidRequest
from engine.types import Samples, SpeechDetection
from engine.whisper.windows import SAMPLE_RATE, WINDOW_S, Span

# faster-whisper's own, for windows that are decoded together.
_DEFAULTS = SpeechDetection(threshold=0.5, padding_s=0.4, min_silence_s=0.16)

# Padding counts towards the length of a window, on both sides.
_MAX_PADDING_S = 5.0


def speech_finder(detection: SpeechDetection | None) -> Callable[[Samples], Sequence[Span]]:
    """A function that finds the spans of speech in samples, none longer than WINDOW_S.

    Raises:
        InvalidRequest: a value that makes no sense.
    """
    chosen = detection or _DEFAULTS
    _check(chosen)
    options = VadOptions(
        threshold=chosen.threshold,
        speech_pad_ms=round(chosen.padding_s * 1000),
        min_silence_duration_ms=round(chosen.min_silence_s * 1000),
        max_speech_duration_s=WINDOW_S,
    )

    def find(samples: Samples) -> Sequence[Span]:
        # It keeps nothing from one call to the next.
        found = get_speech_timestamps(samples, options, SAMPLE_RATE)
        return [Span(each["start"], each["end"]) for each in found]

    return find


def _check(detection: SpeechDetection) -> None:
    for value, highest, field in (
        (detection.threshold, 1.0, "threshold"),
        (detection.padding_s, _MAX_PADDING_S, "prefix_padding_ms"),
        (detection.min_silence_s, WINDOW_S, "silence_duration_ms"),
    ):
        if not 0 <= value <= highest:
            raise InvalidRequest(
                f"chunking_strategy.{field} is out of range", param="chunking_strategy"
            )
