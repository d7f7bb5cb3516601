"""Uploads of any sort to mono PCM, block by block, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

import av
import numpy as np
from av.audio import AudioFrame, AudioStream
from av.container import InputContainer
from av.packet import Packet
from msgspec import Struct

from engine.types import Samples
from server.audio.errors import DecodeError
from server.audio.filters import FilterChain
from server.audio.sniff import sniff

__all__ = ["DecodeError", "DecodeLimits", "decode", "decode_clip", "decode_with_rate"]

_KINDS = "flac, mp3, mp4, mpeg, mpga, m4a, ogg, oga, opus, wav, webm"

# The only decoders that an upload can start; no video decoder ever runs.
_DECODERS = (
    "aac,ac3,eac3,alac,flac,opus,libopus,vorbis,speex,mp1,mp1float,mp2,mp2float,mp3,mp3float,"
    "amrnb,amrwb,libopencore_amrnb,libopencore_amrwb,wmav1,wmav2,gsm_ms,adpcm_ms,adpcm_ima_wav,"
    "adpcm_ima_qt,pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,"
    "pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be"
)

# Recordings often begin or end within a frame; more than this many broken ones in a file, and
# more than there are sound ones, and it is no recording.
_TOLERATED_PACKETS = 16


class DecodeLimits(Struct, frozen=True, kw_only=True):
    """What an upload may ask of us. All are checked on what is decoded, never on what it claims."""

    max_duration_s: float = 4 * 3600.0
    max_channels: int = 8
    min_sample_rate: int = 4_000
    """Hz. Resampled from 1 Hz, a small file would fill the memory."""
    max_sample_rate: int = 384_000
    """Hz."""
    max_decoded_bytes: int = 16 * 2**30
    """PCM in the file's own rate, channels and sample format."""


def decode(
    source: BinaryIO | os.PathLike[str],
    sample_rate: int = 16_000,
    limits: DecodeLimits = DecodeLimits(),  # noqa: B008  frozen
) -> Iterator[Samples]:
    """The audio of a file, or of the first audio track of a video.

    Runs in a worker thread: it blocks, and lets go of the GIL while it decodes. Channels are
    mixed down. Only the bytes of the file decide what it is.

    Args:
        source: Seekable; a file object is read from its start and not closed.
        sample_rate: Hz, of the result.
        limits: Beyond which the file is refused.
    Yields:
        Blocks of 0.5 s and a little more; the last one may be shorter. At least one.
    Raises:
        DecodeError: at the first `next` if it is not audio; at a later one if a limit is passed or
            the file turns out to be broken.
    """
    if isinstance(source, os.PathLike):
        with Path(source).open("rb") as file:
            yield from decode(file, sample_rate, limits)
        return
    for block, _ in decode_with_rate(source, sample_rate, limits):
        yield block


def decode_clip(source: BinaryIO, limits: DecodeLimits) -> tuple[Samples, int]:
    """A short recording in one piece, float32 mono [T], and the rate that it has by itself, Hz.

    As `decode` in all else.
    """
    blocks, rates = zip(*decode_with_rate(source, None, limits), strict=True)
    return np.concatenate(blocks), rates[0]


def decode_with_rate(
    source: BinaryIO, sample_rate: int | None, limits: DecodeLimits
) -> Iterator[tuple[Samples, int]]:
    """As `decode`, each block with its rate, Hz; None is the rate that the file begins with."""
    with _opened(source) as container:
        frames = _checked(_frames(container), limits)
        first = next(frames)
        rate = sample_rate or first.sample_rate
        for block in _in_blocks(_resampled(chain([first], frames), rate), rate // 2):
            yield block, rate


@contextmanager
def _opened(source: BinaryIO) -> Iterator[InputContainer]:
    """The file as FFmpeg reads it.

    Raises:
        DecodeError: not a kind that is read here; also for what FFmpeg raises inside the block.
    """
    kind = sniff(source)
    if kind is None:
        if not source.read(1):
            raise DecodeError("the file is empty")
        raise DecodeError(f"not an audio file of a kind that is read here: {_KINDS}")
    try:
        with _open(source, kind) as container:
            yield container
    except av.FFmpegError as exc:
        raise DecodeError("the audio file is damaged or incomplete") from exc


class _Anonymous:
    """A file that keeps its name to itself, and that hostile offsets cannot upset."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read = file.read
        self.tell = file.tell

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET and not 0 <= offset < 2**63:
            return -1  # to FFmpeg: impossible
        return self._file.seek(offset, whence)


def _open(file: BinaryIO, kind: str) -> InputContainer:
    # No protocol is called "none": should a file of some kind refer to another file or to a URL,
    # FFmpeg cannot open that. `sniff` lets no such kind through to begin with.
    return av.open(
        _Anonymous(file),
        "r",
        format=kind,
        container_options={"codec_whitelist": _DECODERS, "protocol_whitelist": "none"},
        metadata_errors="replace",
    )


def _frames(container: InputContainer) -> Iterator[AudioFrame]:
    """Of the first audio track."""
    if not container.streams.audio:
        raise DecodeError("the file has no audio track")
    stream = container.streams.audio[0]
    codec = cast("av.AudioCodecContext | None", stream.codec_context)
    if codec is None or codec.name not in _DECODERS.split(","):
        raise DecodeError("the audio in this file is of a kind that is not read here")
    sound = damaged = 0
    for packet in _packets(container, stream):
        try:
            frames = codec.decode(packet)
        except av.InvalidDataError as exc:
            damaged += 1
            if damaged > max(sound, _TOLERATED_PACKETS):
                raise DecodeError("the audio file is damaged") from exc
            continue
        sound += 1
        yield from frames


def _packets(container: InputContainer, stream: AudioStream) -> Iterator[Packet[AudioStream]]:
    try:
        yield from container.demux(stream)
    except IndexError as exc:  # PyAV, on a packet of a track that was not there at the start
        raise DecodeError("the audio file is damaged") from exc


def _checked(frames: Iterable[AudioFrame], limits: DecodeLimits) -> Iterator[AudioFrame]:
    duration_s = 0.0
    decoded_bytes = 0
    for frame in frames:
        rate, channels = frame.sample_rate, frame.layout.nb_channels
        if not limits.min_sample_rate <= rate <= limits.max_sample_rate:
            raise DecodeError(f"a sample rate of {rate} Hz is not supported")
        if channels > limits.max_channels:
            raise DecodeError(f"{channels} channels are more than {limits.max_channels}")
        duration_s += frame.samples / rate
        if duration_s > limits.max_duration_s:
            raise DecodeError(f"the audio is longer than {limits.max_duration_s:g} s")
        decoded_bytes += frame.samples * channels * frame.format.bytes
        if decoded_bytes > limits.max_decoded_bytes:
            raise DecodeError("there is too much audio in the file")
        yield frame
    if duration_s == 0:
        raise DecodeError("there is no audio in the file")


def _resampled(frames: Iterable[AudioFrame], sample_rate: int) -> Iterator[Samples]:
    """Mono. The kind of the frames may change on the way, as it does in chained Ogg files."""
    # rematrix_maxval: a mix of loud channels stays within [-1, 1].
    to_mono = f"{sample_rate}:out_sample_fmt=flt:out_chlayout=mono:rematrix_maxval=1"
    filters: FilterChain | None = None
    kind: tuple[int, str, str] | None = None
    for frame in frames:
        frame_kind = frame.sample_rate, frame.format.name, frame.layout.name
        if filters is None or frame_kind != kind:
            if filters is not None:
                yield filters.finish()
            filters, kind = FilterChain(*frame_kind, [("aresample", to_mono)]), frame_kind
        yield filters.push(frame)
    if filters is not None:
        yield filters.finish()


def _in_blocks(parts: Iterable[Samples], block_samples: int) -> Iterator[Samples]:
    pending: list[Samples] = []
    for part in parts:
        pending.append(part)
        if sum(map(len, pending)) >= block_samples:
            yield _joined(pending)
            pending.clear()
    if any(map(len, pending)):
        yield _joined(pending)


def _joined(parts: list[Samples]) -> Samples:
    """One array within [-1, 1]: files of floats hold what they like, NaN included."""
    return np.clip(np.nan_to_num(np.concatenate(parts)), -1.0, 1.0)
