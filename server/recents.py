"""Requests that have ended: a line in the log, totals for /metrics, and the last one by one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from msgspec import Struct, field
from msgspec.structs import asdict

from engine.runtime.log import Fields
from engine.types import Task
from server.context import RequestContext
from server.errors import ApiError, ClientGone, as_api_error
from server.metrics import RequestTotals
from server.schemas.requests import RequestEntry, RequestFigures

logger = logging.getLogger(__name__)

_KEPT = 100
_NAME_CHARS = 200
"""Anything may be the name of a voice that does not exist."""


class Asked(Struct, frozen=True, kw_only=True):
    """A request by what it asked for, but for its text."""

    context: RequestContext
    task: Task
    owner: str | None
    """See `auth.owner_of`."""
    model: str
    engine: str
    voice: str | None = None
    format: str
    facts: Mapping[str, str | int] = {}
    """Others, for the log and the trace alone."""
    began_at: float = field(default_factory=time.perf_counter)
    """When all of this was known: time.perf_counter() seconds."""


Trace: TypeAlias = Callable[[Asked, RequestEntry], None]
"""Told of each request that has ended."""


class Ledger:
    """Where each meter says that its request has begun, and how it has ended. Event loop only.

    It is kept in memory: a server that starts again begins with an empty one.

    Args:
        trace: None: there are no traces.
    Attributes:
        totals: Since the server started.
    """

    def __init__(self, trace: Trace | None = None) -> None:
        self.totals = RequestTotals()
        self._trace = trace
        self._recent: deque[tuple[str | None, RequestEntry]] = deque(maxlen=_KEPT)

    def began(self, asked: Asked) -> None:
        self.totals.began(asked.task)

    def ended(
        self,
        asked: Asked,
        error: BaseException | None,
        figures: RequestFigures,
        counts: Mapping[str, float],
        compute_s: float = 0.0,
    ) -> None:
        """Book a request that has begun, and log it: one line.

        Args:
            asked: The request.
            error: None of one that is done.
            figures: What it cost.
            counts: Others, for the log alone.
            compute_s: That the engine's steps took for what it gave, s.
        """
        status = _status(error)
        failure = _failure(error) if status == "failed" else None
        entry = RequestEntry(
            id=asked.context.request_id,
            task=asked.task,
            created_at=int(time.time() - figures.wall_s),
            model=asked.model,
            engine=asked.engine,
            voice=asked.voice and asked.voice[:_NAME_CHARS],
            format=asked.format,
            status=status,
            error=failure.code if failure else None,
            **asdict(figures),
        )
        self._recent.appendleft((asked.owner, entry))
        self.totals.ended(entry, failure, compute_s)
        if self._trace is not None:
            self._trace(asked, entry)
        _log(asked, error, figures, counts)

    def recent(self, owner: str | None) -> tuple[RequestEntry, ...]:
        """Of the last ones, those of this owner, newest first."""
        return tuple(entry for whose, entry in self._recent if whose == owner)


def _log(
    asked: Asked,
    error: BaseException | None,
    figures: RequestFigures,
    counts: Mapping[str, float],
) -> None:
    line: dict[str, str | float | None] = {
        "event": asked.task,
        "request_id": asked.context.request_id,
        "key": asked.context.key,
        "model": asked.model,
        "engine": asked.engine,
        "voice": asked.voice,
        "format": asked.format,
        **asked.facts,
        "outcome": _outcome(error),
        **counts,
        **asdict(figures),
    }
    logger.info("%s", Fields(line))


def _status(error: BaseException | None) -> Literal["done", "failed", "left"]:
    match error:
        case None:
            return "done"
        case ClientGone() | asyncio.CancelledError():
            return "left"
        case _:
            return "failed"


def _failure(error: BaseException | None) -> ApiError | None:
    return as_api_error(error) if isinstance(error, Exception) else None


def _outcome(error: BaseException | None) -> str:
    match error:
        case None:
            return "done"
        case ClientGone():
            return "client_left"
        case _:
            return type(error).__name__
