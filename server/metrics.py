"""What is measured of a request, and the line that the log gets of it."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing

from engine.types import PcmChunk, Residence, Segment, TranscriptInfo, WorkerStatus
from server.context import RequestContext
from server.errors import ClientGone
from server.log import quoted

logger = logging.getLogger(__name__)

METRICS_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Player:
    """A player that starts at the first byte and hears silence whenever a chunk is late.

    Only waits for the engine count: a client that reads late makes its own silence.
    """

    def __init__(self) -> None:
        self.underrun_s = 0.0
        self._runs_dry_at: float | None = None

    def starts(self, now: float, audio_s: float) -> None:
        """The first byte leaves; so much audio is on its way."""
        self._runs_dry_at = now + audio_s

    def gets(self, asked_at: float, now: float, audio_s: float) -> None:
        """More audio came from the engine, which was asked for it at `asked_at`."""
        if self._runs_dry_at is None:
            return
        late_s = min(now - self._runs_dry_at, now - asked_at)
        self.underrun_s += max(0.0, late_s)
        self._runs_dry_at = max(self._runs_dry_at, now) + audio_s


class SpeechMeter:
    """Counts one speech request while it runs, and logs it when it ends.

    Args:
        context: Of the request.
        sample_rate: Hz, of the engine.
        facts: For the log.
        tempo: By which the server makes the engine's speech shorter.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        context: RequestContext,
        sample_rate: int,
        facts: Mapping[str, str | int],
        tempo: float = 1.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._context = context
        self._sample_rate = sample_rate
        self._tempo = tempo
        self._clock = clock
        self._player = Player()
        self._facts = facts
        self._ttfa_s: float | None = None
        self._bytes = 0
        self._samples = 0
        self._compute_s = 0.0

    async def watch(self, chunks: AsyncGenerator[PcmChunk, None]) -> AsyncGenerator[PcmChunk, None]:
        """The same chunks, counted."""
        async with aclosing(chunks):
            asked_at = self._clock()
            async for chunk in chunks:
                audio_s = len(chunk.samples) / self._sample_rate / self._tempo
                self._player.gets(asked_at, self._clock(), audio_s)
                self._samples += len(chunk.samples)
                self._compute_s += chunk.compute_s
                yield chunk
                asked_at = self._clock()

    @property
    def audio_s(self) -> float:
        """Speech made so far, as the engine speaks it, s."""
        return self._samples / self._sample_rate

    @property
    def has_sent(self) -> bool:
        return self._ttfa_s is not None

    def sent(self, data: bytes) -> None:
        if self._ttfa_s is None and data:
            self._ttfa_s = self._context.elapsed_s()
            self._player.starts(self._clock(), self.audio_s / self._tempo)
        self._bytes += len(data)

    def ended(self, error: BaseException | None) -> None:
        """Log the request: one line, never its text."""
        figures: dict[str, float] = {"bytes": self._bytes, "audio_s": round(self.audio_s, 3)}
        if self._ttfa_s is not None:
            figures["ttfa_s"] = round(self._ttfa_s, 4)
            figures["underrun_s"] = round(self._player.underrun_s, 4)
        if self._samples:
            figures["rtf"] = round(self._compute_s / self.audio_s, 4)
        _log("speech", self._context, self._facts, error, figures)


class TranscriptMeter:
    """Counts one transcription while it runs, and logs it when it ends.

    Args:
        context: Of the request.
        duration_s: Of the recording, as far as it has been read.
        facts: For the log.
    """

    def __init__(
        self, context: RequestContext, duration_s: Callable[[], float], facts: Mapping[str, str]
    ) -> None:
        self._context = context
        self._duration_s = duration_s
        self._facts = facts
        self._segments = 0
        self._first_s: float | None = None

    async def watch(
        self, parts: AsyncGenerator[TranscriptInfo | Segment, None]
    ) -> AsyncGenerator[TranscriptInfo | Segment, None]:
        """The same parts, counted."""
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, Segment):
                    self._segments += 1
                    self._first_s = self._first_s or self._context.elapsed_s()
                yield part

    def ended(self, error: BaseException | None) -> None:
        """Log the request: one line, never its text."""
        duration_s = self._duration_s()
        figures: dict[str, float] = {"segments": self._segments, "audio_s": round(duration_s, 3)}
        if self._first_s is not None:
            figures["first_segment_s"] = round(self._first_s, 4)
        if duration_s:
            figures["rtf"] = round(self._context.elapsed_s() / duration_s, 4)
        _log("transcription", self._context, self._facts, error, figures)


def _log(
    event: str,
    context: RequestContext,
    facts: Mapping[str, str | int],
    error: BaseException | None,
    figures: Mapping[str, float],
) -> None:
    line = {
        "event": event,
        "request_id": context.request_id,
        **facts,
        "outcome": _outcome(error),
        **figures,
        "total_s": round(context.elapsed_s(), 4),
    }
    logger.info("%s", " ".join(f"{key}={quoted(value)}" for key, value in line.items()))


def _outcome(error: BaseException | None) -> str:
    match error:
        case None:
            return "done"
        case ClientGone():
            return "client_left"
        case _:
            return type(error).__name__


_RESIDENCES: tuple[Residence, ...] = ("loading", "resident", "offloaded", "stopped")


def engine_metrics(engines: Mapping[str, tuple[WorkerStatus, ...]]) -> str:
    """All workers in Prometheus's text format.

    Args:
        engines: Workers by the engine's name.
    """
    rows = [
        (f'engine="{_escaped(name)}",worker="{index}",device="{_escaped(worker.device)}"', worker)
        for name, workers in engines.items()
        for index, worker in enumerate(workers)
    ]
    lines = ["# TYPE rhapsode_worker_state gauge"]
    for labels, worker in rows:
        lines += [
            f'rhapsode_worker_state{{{labels},state="{each}"}} {int(worker.residence == each)}'
            for each in _RESIDENCES
        ]
    for metric, kind, figure in _FIGURES:
        lines.append(f"# TYPE {metric} {kind}")
        lines += [f"{metric}{{{labels}}} {figure(worker)}" for labels, worker in rows]
    return "\n".join(lines) + "\n"


def _used_bytes(worker: WorkerStatus) -> float:
    if worker.memory is None:
        return 0 if worker.residence == "stopped" else float("nan")
    return worker.memory.used_bytes


_FIGURES: tuple[tuple[str, str, Callable[[WorkerStatus], float]], ...] = (
    ("rhapsode_worker_device_bytes", "gauge", _used_bytes),
    ("rhapsode_worker_jobs", "gauge", lambda worker: worker.jobs),
    ("rhapsode_worker_restarts_total", "counter", lambda worker: worker.restarts),
    ("rhapsode_worker_wakes_total", "counter", lambda worker: worker.wakes),
    ("rhapsode_worker_wake_seconds_total", "counter", lambda worker: worker.wake_s),
)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"")
