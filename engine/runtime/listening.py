"""The worker's loop around a transcriber: one segment of one recording at a time, in turn."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator
from functools import partial

from msgspec import Struct

from engine.errors import EngineError, to_wire
from engine.protocol import Transcriber
from engine.runtime.recording import Recording, RecordingCancelled
from engine.runtime.wire import (
    Cancel,
    Command,
    Event,
    Failed,
    Finished,
    Found,
    Heard,
    Listen,
    Room,
    Sound,
)
from engine.types import Segment

logger = logging.getLogger(__name__)


class Listening(Struct):
    """One recording being transcribed."""

    command: Listen
    recording: Recording
    segments: Iterator[Segment] | None = None
    """None until the engine has begun with it."""


class ListenLoop:
    """The recordings of one worker. One thread calls everything but `notice`.

    Args:
        engine: Loaded.
        send: Puts an event on the socket; raises ConnectionError when the server is gone.
    """

    def __init__(self, engine: Transcriber, send: Callable[[Event], None]) -> None:
        self._engine = engine
        self._send = send
        self._recordings: dict[int, Recording] = {}
        self._turns: deque[Listening] = deque()

    def notice(self, command: Command) -> bool:
        """Take sound and cancels at once: the engine may be waiting for them. Reader thread.

        Returns:
            True: that was all there is to do.
        """
        match command:
            case Listen(job_id):
                self._recordings[job_id] = Recording(partial(self._make_room, job_id))
                return False
            case Sound(job_id, samples):
                if (recording := self._recordings.get(job_id)) is not None:
                    recording.put(samples)
            case Cancel(job_id):
                if (recording := self._recordings.get(job_id)) is not None:
                    recording.cancel()
            case _:
                raise ConnectionError("a transcriber cannot speak")
        return True

    def apply(self, command: Command) -> None:
        """Take a new recording into the round."""
        assert isinstance(command, Listen), "notice() lets nothing else through"
        self._turns.append(Listening(command, self._recordings[command.job_id]))

    @property
    def nap_s(self) -> float | None:
        """After a turn without a step a command is due."""
        return None

    def turn(self) -> bool:
        """Advance the next recording by one segment; False if there is none."""
        if not self._turns:
            return False
        listening = self._turns.popleft()
        job_id = listening.command.job_id
        try:
            is_over = self._advance(listening)
        except ConnectionError:
            raise
        except RecordingCancelled:
            is_over = True
        except Exception as exc:
            if not isinstance(exc, EngineError):
                request_id = listening.command.request_id
                logger.exception("event=transcribe_failed request_id=%s", request_id)
            self._send(Failed(job_id, to_wire(exc)))
            is_over = True
        if is_over:
            self._drop(listening)
        else:
            self._turns.append(listening)
        return True

    def _advance(self, listening: Listening) -> bool:
        """One segment; True when there are no more."""
        job_id = listening.command.job_id
        if listening.recording.is_cancelled:
            return True
        if listening.segments is None:
            blocks = listening.recording.blocks()
            info, listening.segments = self._engine.transcribe(blocks, listening.command.options)
            self._send(Heard(job_id, info))
            return False
        segment = next(listening.segments, None)
        if segment is None:
            self._send(Finished(job_id))
            return True
        self._send(Found(job_id, segment))
        return False

    def _drop(self, listening: Listening) -> None:
        del self._recordings[listening.command.job_id]
        if isinstance(listening.segments, Generator):
            listening.segments.close()

    def _make_room(self, job_id: int, samples: int) -> None:
        self._send(Room(job_id, samples))
