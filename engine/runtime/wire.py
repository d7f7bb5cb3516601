"""The frames that cross the socket between the server and a worker.

A frame is a little-endian uint32 length and that many bytes of msgpack: one tagged struct. PCM
travels as the raw bytes of a float32 array. Both ends run on one host, hence native byte order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Generic, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from engine.errors import WireError
from engine.types import (
    DeviceMemory,
    EngineInfo,
    Segment,
    StageSteps,
    SynthesisRequest,
    TranscribeOptions,
    TranscriptInfo,
    VoicePrompt,
    Word,
)

_LENGTH = struct.Struct("<I")
_FRAME_BYTES_MAX = 64 << 20


class Start(Struct, frozen=True, array_like=True, tag="start"):
    """Server -> worker: a new job, with leave to send `grant` samples."""

    job_id: int
    request_id: str
    request: SynthesisRequest
    grant: int


class Prepare(Struct, frozen=True, array_like=True, tag="prepare"):
    """Server -> worker: compute and keep the features of a prompt; answered by Finished."""

    job_id: int
    request_id: str
    prompt: VoicePrompt


class Grant(Struct, frozen=True, array_like=True, tag="grant"):
    """Server -> worker: leave to send so many more samples of this job."""

    job_id: int
    samples: int


class Cancel(Struct, frozen=True, array_like=True, tag="cancel"):
    """Server -> worker: nobody wants this job any more."""

    job_id: int


class Listen(Struct, frozen=True, array_like=True, tag="listen"):
    """Server -> worker: a new recording to transcribe; its sound follows."""

    job_id: int
    request_id: str
    options: TranscribeOptions


class Sound(Struct, frozen=True, array_like=True, tag="sound"):
    """Server -> worker: the next stretch of a recording."""

    job_id: int
    samples: bytes
    """float32, native byte order, mono, at the engine's rate. Empty: the recording has ended."""


class Offload(Struct, frozen=True, array_like=True, tag="offload"):
    """Server -> worker, which has no job in hand: leave the device; answered by Placed."""


class Restore(Struct, frozen=True, array_like=True, tag="restore"):
    """Server -> worker: come back to the device; answered by Placed."""


class Measure(Struct, frozen=True, array_like=True, tag="measure"):
    """Server -> worker: say what is on the device; answered by Placed."""


Placing: TypeAlias = Offload | Restore | Measure
Command: TypeAlias = Start | Prepare | Grant | Cancel | Listen | Sound | Placing


class Ready(Struct, frozen=True, array_like=True, tag="ready"):
    """Worker -> server, once: the engine has loaded."""

    info: EngineInfo
    can_offload: bool
    memory: DeviceMemory | None


Doing: TypeAlias = Literal["nothing", "step", "long"]


class Beat(Struct, frozen=True, array_like=True, tag="beat"):
    """Worker -> server, about every second: what its loop is inside."""

    number: int
    """Grows as the loop gets on."""
    doing: Doing
    """"long": a load, a move, a prompt, or steps of a large model on a CPU."""


class Broken(Struct, frozen=True, array_like=True, tag="broken"):
    """Worker -> server, last: the engine could not load, leave its device or come back to it, or
    will never work again."""

    error: WireError


class Placed(Struct, frozen=True, array_like=True, tag="placed"):
    """Worker -> server: it is done with the oldest Offload, Restore or Measure."""

    memory: DeviceMemory | None
    steps: tuple[StageSteps, ...]
    """Since the worker started; none of a transcriber."""


class Audio(Struct, frozen=True, array_like=True, tag="audio"):
    """Worker -> server: a stretch of one job's audio."""

    job_id: int
    samples: bytes
    """float32, native byte order, mono."""
    words: tuple[Word, ...]
    compute_s: float
    """Time spent in steps of this job since its last Audio, s."""
    progress: float | None
    """As StepOutput's."""


class Room(Struct, frozen=True, array_like=True, tag="room"):
    """Worker -> server: leave to send so many more samples of this recording."""

    job_id: int
    samples: int


class Heard(Struct, frozen=True, array_like=True, tag="heard"):
    """Worker -> server, before the first segment."""

    job_id: int
    info: TranscriptInfo


class Found(Struct, frozen=True, array_like=True, tag="found"):
    """Worker -> server: the next segment of a transcript."""

    job_id: int
    segment: Segment


class Finished(Struct, frozen=True, array_like=True, tag="finished"):
    """Worker -> server: the job has given all that it had to give."""

    job_id: int


class Failed(Struct, frozen=True, array_like=True, tag="failed"):
    """Worker -> server: the job ended in an error."""

    job_id: int
    error: WireError


JobEvent: TypeAlias = Audio | Room | Heard | Found | Finished | Failed
Event: TypeAlias = Ready | Beat | Broken | Placed | JobEvent

_encoder = msgspec.msgpack.Encoder()


def encode_frame(message: Command | Event) -> bytearray:
    """One frame, ready to be written."""
    frame = bytearray(_LENGTH.size)
    _encoder.encode_into(message, frame, _LENGTH.size)
    _LENGTH.pack_into(frame, 0, len(frame) - _LENGTH.size)
    return frame


T = TypeVar("T")


class FrameDecoder(Generic[T]):
    """Cuts a byte stream into frames of one union of message types."""

    def __init__(self, message_type: type[T]) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(message_type)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[T]:
        """Take what was read; yield each message that is whole now.

        Raises:
            ConnectionError: the peer does not speak this protocol.
        """
        self._buffer += data
        start = 0
        try:
            while (body := start + _LENGTH.size) <= len(self._buffer):
                (length,) = _LENGTH.unpack_from(self._buffer, start)
                if length > _FRAME_BYTES_MAX:
                    raise ConnectionError(f"frame of {length} bytes")
                if (end := body + length) > len(self._buffer):
                    break
                start = end
                with memoryview(self._buffer) as view, view[body:end] as frame:
                    message = self._decoder.decode(frame)
                yield message
        except msgspec.DecodeError as exc:
            raise ConnectionError(f"unreadable frame: {exc}") from exc
        finally:
            del self._buffer[:start]
