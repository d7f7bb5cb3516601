"""Recordings to upload: speech and silence, in every container that the API names."""

import io
import wave
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt

from compat_tests.audio import Clip


class Container(NamedTuple):
    """What FFmpeg calls it."""

    muxer: str
    codec: str
    sample_rate: int | None = None
    """Hz; None keeps the clip's."""
    layout: str = "mono"


CONTAINERS = {
    "flac": Container("flac", "flac"),
    "mp3": Container("mp3", "libmp3lame"),
    "mp4": Container("mp4", "aac"),
    "mpeg": Container("mpeg", "mp2"),
    "mpga": Container("mp2", "mp2"),
    "m4a": Container("ipod", "aac"),
    "ogg": Container("ogg", "vorbis", layout="stereo"),
    "oga": Container("ogg", "flac"),
    "opus": Container("ogg", "libopus", 48_000),
    "wav": Container("wav", "pcm_s16le"),
    "webm": Container("webm", "libopus", 48_000),
}
"""By file name extension: all that OpenAI's documentation lists, and opus."""


def encode(clip: Clip, extension: str, **options: str) -> bytes:
    """The clip as a file of this kind, written with these options of FFmpeg's muxer."""
    kind = CONTAINERS[extension]
    file = io.BytesIO()
    with av.open(file, "w", format=kind.muxer, options=options) as container:
        sample_rate = kind.sample_rate or clip.sample_rate
        # FFmpeg's own Vorbis encoder, the only one here, still counts as an experiment.
        strict = {"strict": "experimental"}
        stream = container.add_stream(kind.codec, sample_rate, strict, layout=kind.layout)
        assert isinstance(stream, av.AudioStream)
        container.mux(stream.encode(_frame(clip)))
        container.mux(stream.encode(None))
    return file.getvalue()


def encode_mp3_frames(clip: Clip) -> bytes:
    """An MP3 of nothing but frames: several make a longer one."""
    return encode(clip, "mp3", write_xing="0", id3v2_version="0", write_id3v1="0")


def encode_video(clip: Clip) -> bytes:
    """An MP4 file of a grey picture, with the clip as its sound."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        picture = container.add_stream("mpeg4", rate=5)
        picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("aac", rate=44_100, layout="mono")
        for _ in range(round(clip.duration_s * 5)):
            grey = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8))
            container.mux(picture.encode(grey))
        container.mux(picture.encode(None))
        container.mux(sound.encode(_frame(clip)))
        container.mux(sound.encode(None))
    return file.getvalue()


def wav(samples: npt.NDArray[np.float32], sample_rate: int, channels: int = 1) -> bytes:
    """A wave file that holds these samples in each of its channels; the rate may be absurd."""
    pcm = (samples * 32767).astype("<i2").repeat(channels)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(sample_rate)
        writer.writeframes(pcm.tobytes())
    return file.getvalue()


def silence(duration_s: float, sample_rate: int = 16_000) -> Clip:
    """Digital silence."""
    return Clip(np.zeros(round(duration_s * sample_rate), np.float32), sample_rate, 1)


def joined(*clips: Clip) -> Clip:
    """One clip after the other; all are mono, of one sample rate."""
    (sample_rate,) = {clip.sample_rate for clip in clips}
    return Clip(np.concatenate([clip.samples for clip in clips]), sample_rate, 1)


def _frame(clip: Clip) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(clip.samples[np.newaxis], format="fltp", layout="mono")
    frame.sample_rate, frame.pts = clip.sample_rate, 0
    return frame
