"""PCM through one FFmpeg codec and container, in process, by way of PyAV."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from typing import cast

import av
from av.audio import AudioFrame, AudioStream
from msgspec import Struct

from engine.types import Samples
from server.audio.errors import EncodeError
from server.audio.pcm import checked, to_int16


class Codec(Struct, frozen=True, kw_only=True):
    """How FFmpeg is asked for one format."""

    container: str
    name: str
    sample_format: str
    bit_rate: int = 0
    """bit/s; 0 where the codec is lossless."""
    container_options: dict[str, str] = {}
    codec_options: dict[str, str] = {}


CODECS = {
    # No Xing or ID3 header: the one is written again at the end, the other plays no sound.
    # No bit reservoir: a frame needs none before it. compression_level is LAME's quality; 7 costs
    # 6 ms of CPU an audio second, its default 9.
    "mp3": Codec(
        container="mp3",
        name="libmp3lame",
        sample_format="s16p",
        bit_rate=96_000,
        container_options={"write_xing": "0", "id3v2_version": "0"},
        codec_options={"reservoir": "0", "compression_level": "7"},
    ),
    # One page a frame: a page is what a player must have whole. compression_level is libopus'
    # complexity; 5 costs 4 ms of CPU an audio second, its default 11.
    "opus": Codec(
        container="ogg",
        name="libopus",
        sample_format="flt",
        bit_rate=48_000,
        container_options={"page_duration": "20000"},
        codec_options={"application": "audio", "frame_duration": "20", "compression_level": "5"},
    ),
    "aac": Codec(container="adts", name="aac", sample_format="fltp", bit_rate=96_000),
    # Padding is room for tags to be written later: nobody does that to a stream.
    "flac": Codec(
        container="flac",
        name="flac",
        sample_format="s16",
        container_options={"metadata_header_padding": "0"},
    ),
}


class _Pipe:
    """Where a muxer writes that may not look back: it has no seek()."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(data)
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


class _Muxer:
    """One codec in one container, writing to `sink`."""

    def __init__(self, codec: Codec, sample_rate: int, sink: _Pipe | BytesIO) -> None:
        self._sample_format = codec.sample_format
        self._sample_rate = sample_rate
        self._pts = 0
        with _translated():
            self._container = av.open(
                sink,
                "w",
                format=codec.container,
                container_options=codec.container_options | {"flush_packets": "1"},
            )
            # Stream and container refer to each other, which close() undoes. An encoder dropped
            # half-way frees its codec at once by this, not at some later garbage collection.
            weakref.finalize(self, self._container.close).atexit = False
            stream = self._container.add_stream(
                codec.name,
                rate=sample_rate,
                options=codec.codec_options,
                bit_rate=codec.bit_rate,
                format=codec.sample_format,
                layout="mono",
            )
            self._stream = cast("AudioStream", stream)
            self._container.start_encoding()

    def push(self, samples: Samples) -> None:
        if len(samples) == 0:
            return
        is_integer = self._sample_format.startswith("s16")
        plane = to_int16(samples) if is_integer else checked(samples)
        frame = AudioFrame.from_ndarray(plane.reshape(1, -1), self._sample_format, "mono")
        frame.sample_rate = self._sample_rate
        frame.pts = self._pts
        with _translated(), _one_cpu() if self._pts == 0 else nullcontext():
            self._container.mux(self._stream.encode(frame))
        self._pts += len(samples)

    def finish(self) -> None:
        with _translated():
            self._container.mux(self._stream.encode(None))
            self._container.close()


class CodecEncoder:
    """A stream: what has been encoded so far can be sent, and is never changed again."""

    def __init__(self, codec: Codec, sample_rate: int) -> None:
        self._pipe = _Pipe()
        self._muxer = _Muxer(codec, sample_rate, self._pipe)

    def encode(self, samples: Samples) -> bytes:
        self._muxer.push(samples)
        return self._pipe.take()

    def flush(self) -> bytes:
        self._muxer.finish()
        return self._pipe.take()


def encode_file(codec: Codec, samples: Samples, sample_rate: int) -> bytes:
    """A whole file, in whose header the muxer has entered the length at the end."""
    file = BytesIO()
    muxer = _Muxer(codec, sample_rate, file)
    muxer.push(samples)
    muxer.finish()
    return file.getvalue()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as exc:
        raise EncodeError(f"the audio codec failed: {exc}") from exc


@contextmanager
def _one_cpu() -> Iterator[None]:
    """Keep FFmpeg from starting threads that would never work.

    With the first frame PyAV builds a filter graph that cuts frames to the codec's size. The
    graph starts a thread for each CPU that the calling thread may use, up to 16, unless there is
    only one; 200 streams would carry 3200 idle threads.
    """
    if sys.platform != "linux":
        yield
        return
    allowed = os.sched_getaffinity(0)
    # By thread, so that streams which start together do not meet on one CPU.
    os.sched_setaffinity(0, {sorted(allowed)[threading.get_native_id() % len(allowed)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
