"""The six response formats: what each is called on the wire, and the rates it can be had at."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from msgspec import Struct

ResponseFormat: TypeAlias = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]

DEFAULT_SAMPLE_RATE: Final = 24_000
"""Hz. Every client takes it for granted; only an explicit wish changes it."""


class AudioFormat(Struct, frozen=True):
    """One row of the table."""

    media_type: str
    sample_rates: tuple[int, ...]
    """Hz, ascending: what a request may ask for."""


# MPEG audio has these nine and no others; for the lossless formats they are the common ones.
_MPEG_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
# Rates at which Opus takes PCM in. What is decoded from it is always 48 kHz (RFC 7845, 4).
_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)

FORMATS: Final[Mapping[ResponseFormat, AudioFormat]] = MappingProxyType(
    {
        "mp3": AudioFormat("audio/mpeg", _MPEG_RATES),
        "opus": AudioFormat("audio/opus", _OPUS_RATES),
        "aac": AudioFormat("audio/aac", _MPEG_RATES),
        "flac": AudioFormat("audio/flac", _MPEG_RATES),
        "wav": AudioFormat("audio/wav", _MPEG_RATES),
        "pcm": AudioFormat("audio/pcm", _MPEG_RATES),
    }
)
