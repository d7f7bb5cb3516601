"""Recordings as they lie in the store: FLAC, mono, 16 bit. What goes in comes out, bit by bit."""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile

from voices.errors import CorruptVoice
from voices.profile import Samples

Pcm16: TypeAlias = npt.NDArray[np.int16]
"""int16 mono PCM, shape [T]."""

MAX_DURATION_S: Final = 60.0
"""Of what is decoded: a small file can stand for hours."""
MAX_SAMPLE_RATE: Final = 192_000
"""Hz; likewise. No recording of more is taken in."""
_FULL_SCALE = 32768


def to_pcm16(samples: Samples) -> Pcm16:
    """Full scale is 32768; what is beyond is clipped. Undone by `to_samples` without a loss."""
    scaled = np.rint(samples * np.float32(_FULL_SCALE))
    pcm: Pcm16 = np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
    return pcm


def to_samples(pcm: Pcm16) -> Samples:
    return pcm.astype(np.float32) / np.float32(_FULL_SCALE)


def digest(pcm: Pcm16, sample_rate: int) -> str:
    """SHA-256, hex, of the rate (32-bit) and the PCM, both little-endian.

    It names what is heard: two files of the same sound have one digest, and the same numbers at
    another rate have another.
    """
    hasher = hashlib.sha256(sample_rate.to_bytes(4, "little"))
    hasher.update(pcm.astype("<i2", copy=False).tobytes())
    return hasher.hexdigest()


def encode(pcm: Pcm16, sample_rate: int) -> bytes:
    file = BytesIO()
    soundfile.write(file, pcm, sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def decode(data: bytes) -> tuple[Pcm16, int]:
    """The PCM and its rate.

    Raises:
        CorruptVoice: not what `encode` writes.
    """
    try:
        with soundfile.SoundFile(BytesIO(data)) as file:
            if (file.format, file.subtype, file.channels) != ("FLAC", "PCM_16", 1):
                raise CorruptVoice("the audio is not FLAC, mono, 16 bit")
            if file.samplerate > MAX_SAMPLE_RATE:
                raise CorruptVoice("the audio has an impossible sample rate")
            if not 0 < file.frames <= MAX_DURATION_S * file.samplerate:
                raise CorruptVoice("the audio has an impossible duration")
            pcm: Pcm16 = file.read(dtype="int16")
            if len(pcm) != file.frames:
                raise CorruptVoice("the audio ends early")
            return pcm, file.samplerate
    except soundfile.SoundFileError as exc:
        raise CorruptVoice("the audio cannot be decoded") from exc
