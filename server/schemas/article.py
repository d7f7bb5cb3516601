"""What /api/... answers with: the names of the article's service, and what they leave out."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from engine.types import Device
from server.errors import ErrorDetail


class ArticleError(Struct, frozen=True):
    """OpenAI's envelope, and the one string that the article's clients read."""

    error: ErrorDetail
    detail: str
    """The message once more."""


class ArticleVoice(Struct, frozen=True, kw_only=True):
    """A stored voice. /v1/audio/voices/{id} tells more of it."""

    id: str
    name: str
    text: str
    """What is said in the recording."""
    audio_path: str
    """Path of its URL, from the root of this server."""
    created_at: str
    """ISO 8601, UTC."""


class ArticleVoices(Struct, frozen=True):
    voices: tuple[ArticleVoice, ...]


class ArticleVoiceDeleted(Struct, frozen=True):
    id: str
    status: Literal["ok"] = "ok"


class Emotions(Struct, frozen=True):
    emotions: tuple[str, ...]


class GpuDevice(Struct, frozen=True, kw_only=True):
    """A device that engines are on, the CPU included. Null: it cannot be told now."""

    device: Device
    engines: tuple[str, ...]
    loaded: tuple[str, ...]
    """Those whose weights are there now."""
    used_bytes: int | None
    """By our engines."""
    free_bytes: int | None
    total_bytes: int | None
    idle_time: float | None
    """Seconds since the last job of any of them ended; null while one runs."""


class GpuStatus(Struct, frozen=True, kw_only=True):
    """GB are 2**30 bytes, as on the box of a card. Without a GPU all of the memory is 0."""

    loaded: bool
    """The engine that answers /api/tts can speak at once: it need not be woken."""
    gpu_memory_used: float | None
    """GB, by our engines, on all GPUs, as measured now."""
    gpu_memory_total: float | None
    gpu_memory_used_bytes: int | None
    gpu_memory_total_bytes: int | None
    idle_time: float | None
    """As a device's, of all engines."""
    devices: tuple[GpuDevice, ...]


class GpuOffload(Struct, frozen=True, kw_only=True):
    """The GPUs are free of what could be taken off them."""

    status: Literal["ok"] = "ok"
    message: str
    offloaded: tuple[str, ...]
    """Engines that left; the next request for one wakes it."""
    freed_bytes: int | None
    """Measured before and after; null if either could not be."""


class Progress(Struct, frozen=True, kw_only=True, tag_field="type", tag="progress"):
    """Stands before each chunk."""

    progress: float | None
    """Share of the text that is spoken, 0 to 1; null if the engine cannot tell."""
    duration: float
    """Seconds of speech so far, the next chunk included."""
    elapsed: float
    """Seconds since the request came."""


class Chunk(Struct, frozen=True, kw_only=True, tag_field="type", tag="chunk"):
    """A stretch of speech, sent when it was made."""

    index: int
    audio: str
    """base64 by itself. Of all chunks decoded and joined comes a wave file."""
    header_bytes: int
    """Of `audio`, before the samples: the wave file's header in chunk 0, else 0."""
    format: Literal["pcm_s16le"] = "pcm_s16le"
    """Of the samples."""
    sample_rate: int
    channels: Literal[1] = 1


class Complete(Struct, frozen=True, kw_only=True, tag_field="type", tag="complete"):
    """The last event of a speech that is whole."""

    chunks: int
    duration: float
    """Seconds of speech."""
    ttfa: float | None
    """Seconds from the request to the first audio."""
    rtf: float | None
    """Seconds of computing for a second of speech."""
    elapsed: float
    """Seconds since the request came."""
    sample_rate: int
    channels: Literal[1] = 1


class Failed(Struct, frozen=True, tag_field="type", tag="error"):
    """The last event of a speech that broke off."""

    message: str
