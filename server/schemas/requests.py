"""GET /v1/requests, and the figures that a speech stream ends with."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from engine.types import Task


class RequestFigures(Struct, frozen=True, kw_only=True):
    """What one request cost. Seconds; null where there is nothing to measure."""

    ttfa_s: float | None
    """From the request to the first audio that was sent; of speech only."""
    audio_s: float
    """As it is played: made by the engine, or read from the recording, so far."""
    rtf: float | None
    """Seconds of work for a second of audio. Of speech: the steps that the engine took part in for
    it. Of a transcription: all the time that it took."""
    underrun_s: float | None
    """Silence that a player heard since the first audio, as the engine was late; of speech only."""
    wall_s: float
    """Since the request came."""


class RequestEntry(Struct, frozen=True, kw_only=True):
    """One request that has ended; nothing of what was said. The last fields are RequestFigures'."""

    id: str
    """As x-request-id."""
    object: Literal["request"] = "request"
    task: Task
    created_at: int
    """Unix seconds."""
    model: str
    """As it was asked for."""
    engine: str
    voice: str | None
    format: str
    status: Literal["done", "failed", "left"]
    """"left": the client did not wait for the end."""
    error: str | None
    """The error's code, of one that failed."""
    ttfa_s: float | None
    audio_s: float
    rtf: float | None
    underrun_s: float | None
    wall_s: float


class RequestList(Struct, frozen=True):
    data: tuple[RequestEntry, ...]
    object: Literal["list"] = "list"
