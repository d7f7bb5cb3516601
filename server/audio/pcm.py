"""Samples as 16-bit integers, bare or behind a WAV header."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.types import Samples
from server.audio.errors import EncodeError

UNKNOWN_SIZE: Final = 0xFFFF_FFFF
"""In a WAV header: the length is not known yet. Readers take 0 for an empty or broken file."""

_HEADER_BYTES = 44
_SAMPLE_BYTES = 2


def checked(samples: Samples) -> Samples:
    """The samples, clipped to [-1, 1].

    Raises:
        EncodeError: one of them is NaN or infinite. Codecs must never see such a value: LAME
            ends the whole process on it.
    """
    if not np.isfinite(samples).all():
        raise EncodeError("the engine gave samples that are not finite numbers")
    return np.clip(samples, -1.0, 1.0)


def to_int16(samples: Samples) -> npt.NDArray[np.int16]:
    """Full scale is 32767 on both sides; what is beyond it is clipped.

    Returns:
        int16 little-endian [T].
    Raises:
        EncodeError: a sample is NaN or infinite.
    """
    scaled = checked(samples) * np.float32(32767)
    rounded: npt.NDArray[np.int16] = np.rint(scaled, out=scaled).astype("<i2")
    return rounded


def wav_header(sample_rate: int, data_bytes: int = UNKNOWN_SIZE) -> bytes:
    """The 44 bytes before s16le mono PCM.

    Args:
        sample_rate: Hz.
        data_bytes: Size of the PCM to come; a size too large for the header counts as unknown.
    """
    riff_bytes = min(data_bytes + _HEADER_BYTES - 8, UNKNOWN_SIZE)
    if riff_bytes == UNKNOWN_SIZE:
        data_bytes = UNKNOWN_SIZE
    pcm, channels, bits = 1, 1, 8 * _SAMPLE_BYTES
    fields = (pcm, channels, sample_rate, sample_rate * _SAMPLE_BYTES, _SAMPLE_BYTES, bits)
    return (
        struct.pack("<4sI4s", b"RIFF", riff_bytes, b"WAVE")
        + struct.pack("<4sIHHIIHH", b"fmt ", 16, *fields)
        + struct.pack("<4sI", b"data", data_bytes)
    )


class PcmEncoder:
    """s16le without a header."""

    def encode(self, samples: Samples) -> bytes:
        return to_int16(samples).tobytes()

    def flush(self) -> bytes:
        return b""


class WavEncoder:
    """A header of unknown length, whole in the first bytes out, then s16le."""

    def __init__(self, sample_rate: int) -> None:
        self._header = wav_header(sample_rate)

    def encode(self, samples: Samples) -> bytes:
        header, self._header = self._header, b""
        return header + to_int16(samples).tobytes()

    def flush(self) -> bytes:
        header, self._header = self._header, b""
        return header
