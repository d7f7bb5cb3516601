"""What is measured of a request while it runs."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from engine.types import PcmChunk, Segment, TranscriptInfo
from server.recents import Asked, Ledger
from server.schemas.requests import RequestFigures


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
    """Counts one speech request while it runs, and books it when it ends: call `ended` once.

    Args:
        ledger: To book it in.
        asked: The request.
        sample_rate: Hz, of the engine.
        tempo: By which the server makes the engine's speech shorter.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        ledger: Ledger,
        asked: Asked,
        sample_rate: int,
        tempo: float = 1.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._ledger = ledger
        self._asked = asked
        self._played_rate = sample_rate * tempo
        self._clock = clock
        self._player = Player()
        self._ttfa_s: float | None = None
        self._bytes = 0
        self._samples = 0
        self._compute_s = 0.0
        ledger.began(asked)

    async def watch(self, chunks: AsyncGenerator[PcmChunk, None]) -> AsyncGenerator[PcmChunk, None]:
        """The same chunks, counted."""
        async with aclosing(chunks):
            asked_at = self._clock()
            async for chunk in chunks:
                self._player.gets(asked_at, self._clock(), len(chunk.samples) / self._played_rate)
                self._samples += len(chunk.samples)
                self._compute_s += chunk.compute_s
                yield chunk
                asked_at = self._clock()

    @property
    def played_s(self) -> float:
        """Speech made so far, as it is played, s."""
        return self._samples / self._played_rate

    @property
    def has_sent(self) -> bool:
        return self._ttfa_s is not None

    @property
    def headers(self) -> dict[str, str]:
        """Of a stream whose first audio is here."""
        if self._ttfa_s is None:
            return {}
        return {"x-rhapsode-ttfa-ms": str(round(self._ttfa_s * 1000))}

    @property
    def figures(self) -> RequestFigures:
        """So far."""
        return RequestFigures(
            ttfa_s=None if self._ttfa_s is None else round(self._ttfa_s, 4),
            audio_s=round(self.played_s, 3),
            rtf=round(self._compute_s / self.played_s, 4) if self._samples else None,
            underrun_s=None if self._ttfa_s is None else round(self._player.underrun_s, 4),
            wall_s=round(self._asked.context.elapsed_s(), 4),
        )

    def sent(self, data: bytes) -> None:
        if self._ttfa_s is None and data:
            self._ttfa_s = self._asked.context.elapsed_s()
            self._player.starts(self._clock(), self.played_s)
        self._bytes += len(data)

    def ended(self, error: BaseException | None) -> None:
        """Book the request; what was said is left out."""
        counts = {"bytes": self._bytes}
        self._ledger.ended(self._asked, error, self.figures, counts, self._compute_s)


class TranscriptMeter:
    """Counts one transcription while it runs, and books it when it ends: call `ended` once.

    Args:
        ledger: To book it in.
        asked: The request.
        duration_s: Of the recording, as far as it has been read.
    """

    def __init__(self, ledger: Ledger, asked: Asked, duration_s: Callable[[], float]) -> None:
        self._ledger = ledger
        self._asked = asked
        self._duration_s = duration_s
        self._segments = 0
        self._first_s: float | None = None
        ledger.began(asked)

    async def watch(
        self, parts: AsyncGenerator[TranscriptInfo | Segment, None]
    ) -> AsyncGenerator[TranscriptInfo | Segment, None]:
        """The same parts, counted."""
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, Segment):
                    self._segments += 1
                    self._first_s = self._first_s or self._asked.context.elapsed_s()
                yield part

    def ended(self, error: BaseException | None) -> None:
        """Book the request; what was heard is left out."""
        duration_s, wall_s = self._duration_s(), self._asked.context.elapsed_s()
        figures = RequestFigures(
            ttfa_s=None,
            audio_s=round(duration_s, 3),
            rtf=round(wall_s / duration_s, 4) if duration_s else None,
            underrun_s=None,
            wall_s=round(wall_s, 4),
        )
        counts: dict[str, float] = {"segments": self._segments}
        if self._first_s is not None:
            counts["first_segment_s"] = round(self._first_s, 4)
        self._ledger.ended(self._asked, error, figures, counts)
