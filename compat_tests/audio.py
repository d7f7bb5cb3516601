"""Audio as a client hears it: decoded by a library that is not the server's code."""

import io
import re
from typing import Literal, NamedTuple, TypeAlias, get_args

import av
import numpy as np
import numpy.typing as npt

Format: TypeAlias = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
FORMATS: tuple[Format, ...] = get_args(Format)

CONTENT_TYPE: dict[Format, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}

MAGIC: dict[Format, re.Pattern[bytes]] = {
    "mp3": re.compile(rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]"),
    "opus": re.compile(rb"OggS.{24}OpusHead", re.DOTALL),
    "aac": re.compile(rb"\xff[\xf1\xf9]"),
    "flac": re.compile(rb"fLaC"),
    "wav": re.compile(rb"RIFF....WAVEfmt ", re.DOTALL),
    "pcm": re.compile(rb"(?!ID3|OggS|fLaC|RIFF)"),
}

PCM_RATE_HZ = 24_000
PCM_BYTES_PER_S = PCM_RATE_HZ * 2

SILENCE_RMS = 0.005
"""About -46 dBFS: far below any speech, far above dither."""


class Clip(NamedTuple):
    """Decoded audio."""

    samples: npt.NDArray[np.float32]
    """[T], mono, in [-1, 1]."""
    sample_rate: int
    channels: int
    """As the stream declares; 1 for headerless PCM."""

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate

    @property
    def rms(self) -> float:
        return float(np.sqrt(np.mean(np.square(self.samples)))) if len(self.samples) else 0.0


def decode(data: bytes, response_format: Format) -> Clip:
    """Decode a whole body.

    Raises:
        ValueError: pcm with half a sample at its end.
        av.error.FFmpegError: not audio of this format.
    """
    if response_format == "pcm":
        return Clip(
            np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768), PCM_RATE_HZ, 1
        )
    demuxer = {"opus": "ogg"}.get(response_format, response_format)
    with av.open(io.BytesIO(data), "r", format=demuxer) as container:
        stream = container.streams.audio[0]
        planar = av.AudioResampler(format="fltp")
        frames = [out for frame in container.decode(stream) for out in planar.resample(frame)]
        samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
        return Clip(samples.astype(np.float32), stream.rate, stream.channels)
