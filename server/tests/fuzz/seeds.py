"""What fuzzing begins with: sound files of every kind, and ways to spoil bytes."""

import io
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import av
import numpy as np
from av.audio import AudioFrame
from hypothesis import strategies as st

from engine.types import Samples
from server.audio.encoder import encode_whole
from server.audio.formats import ResponseFormat

RATE = 16_000
_ENCODED: tuple[ResponseFormat, ...] = ("wav", "mp3", "opus", "aac", "flac")
_MUXED = (("mp4", "aac"), ("webm", "libopus"), ("ogg", "flac"))
_CHUNK_BYTES = 64
_TELLING = (0, 1, 0x7F, 0x80, 0xFF)
"""Bytes of which sizes, counts and offsets at the edges are made."""


@cache
def sounds() -> Mapping[str, bytes]:
    """A fifth of a second of noise and tone in each container that is read, by its name."""
    t = np.arange(RATE // 5) / RATE
    noise = np.random.default_rng(0).standard_normal(len(t))
    samples: Samples = (0.4 * np.sin(2 * np.pi * 300 * t) + 0.05 * noise).astype(np.float32)
    encoded = {kind: encode_whole(kind, samples, RATE) for kind in _ENCODED}
    return MappingProxyType(encoded | {kind: _muxed(kind, codec) for kind, codec in _MUXED})


def _muxed(container: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=48_000, layout="mono")
        assert isinstance(stream, av.AudioStream)
        silence = np.zeros((1, 9_600), np.float32)
        frame = AudioFrame.from_ndarray(silence, "fltp", "mono")
        frame.sample_rate, frame.pts = 48_000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


@st.composite
def spoiled(draw: st.DrawFn, wholes: tuple[bytes, ...], edits: int = 6) -> bytes:
    """One of these files, bytes of which are changed, doubled, lost, or taken from another one.

    Args:
        draw: Hypothesis' own.
        wholes: Files to begin with.
        edits: At most.
    """
    data = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(0, edits))):
        # Most of what a container says of itself stands at its start.
        end = draw(st.sampled_from((min(64, len(data)), len(data))))
        at = draw(st.integers(0, end))
        size = draw(st.integers(1, _CHUNK_BYTES))
        match draw(st.sampled_from(("set", "edge", "lose", "double", "graft", "end"))):
            case "set":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "edge":
                width = draw(st.sampled_from((1, 2, 4, 8)))
                data[at : at + width] = bytes([draw(st.sampled_from(_TELLING))]) * width
            case "lose":
                del data[at : at + size]
            case "double":
                data[at:at] = data[at : at + size]
            case "graft":
                other = draw(st.sampled_from(wholes))
                data[at : at + size] = other[at : at + size]
            case _:
                del data[at:]
    return bytes(data)
