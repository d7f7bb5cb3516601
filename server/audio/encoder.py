"""PCM in, bytes of one response format out."""

from __future__ import annotations

from typing import Protocol

from engine.types import Samples
from server.audio.codec import CODECS, CodecEncoder, encode_file
from server.audio.errors import EncodeError
from server.audio.formats import DEFAULT_SAMPLE_RATE, ResponseFormat
from server.audio.pcm import PcmEncoder, WavEncoder, to_int16, wav_header

__all__ = ["AudioEncoder", "EncodeError", "create_encoder", "encode_whole"]


class AudioEncoder(Protocol):
    """One stream of one format. Any thread, one at a time; the codecs let go of the GIL.

    The bytes that it gives, joined, are one file; how the samples were split makes no difference.
    It may be dropped at any point.
    """

    def encode(self, samples: Samples) -> bytes:
        """What can be sent after these samples: possibly nothing, as codecs work in frames.

        Raises:
            EncodeError: the samples hold a NaN or an infinity, or the codec failed.
        """
        ...

    def flush(self) -> bytes:
        """The rest. Called once, at the end.

        Raises:
            EncodeError: the codec failed.
        """
        ...


def create_encoder(
    response_format: ResponseFormat, sample_rate: int = DEFAULT_SAMPLE_RATE
) -> AudioEncoder:
    """An encoder for a stream whose length is not known.

    Args:
        response_format: One of `FORMATS`.
        sample_rate: Hz, of the samples to come; one of the format's `sample_rates`.
    Raises:
        EncodeError: the codec cannot be opened at this rate.
    """
    match response_format:
        case "pcm":
            return PcmEncoder()
        case "wav":
            return WavEncoder(sample_rate)
        case _:
            return CodecEncoder(CODECS[response_format], sample_rate)


def encode_whole(
    response_format: ResponseFormat, samples: Samples, sample_rate: int = DEFAULT_SAMPLE_RATE
) -> bytes:
    """A file of a clip that is there from end to end; wav and flac then state their length.

    Raises:
        EncodeError: as `create_encoder` and `AudioEncoder.encode`.
    """
    match response_format:
        case "wav":
            pcm = to_int16(samples).tobytes()
            return wav_header(sample_rate, len(pcm)) + pcm
        case "flac":
            return encode_file(CODECS["flac"], samples, sample_rate)
        case _:
            encoder = create_encoder(response_format, sample_rate)
            return encoder.encode(samples) + encoder.flush()
