"""A recording on its way from the reader thread to the engine."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator

import numpy as np

from engine.types import Samples


class RecordingCancelled(Exception):
    """Nobody wants the transcript any more."""


class Recording:
    """Blocks of sound, put by one thread and pulled by another.

    Args:
        on_pull: Told the samples of each block that the engine has taken.
    """

    def __init__(self, on_pull: Callable[[int], None]) -> None:
        self._on_pull = on_pull
        self._blocks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.is_cancelled = False

    def put(self, samples: bytes) -> None:
        """Add float32 samples; none ends the recording. Reader thread."""
        self._blocks.put(samples)

    def cancel(self) -> None:
        """Make the next pull, or the one that waits, raise. Reader thread."""
        self.is_cancelled = True
        self._blocks.put(b"")

    def blocks(self) -> Iterator[Samples]:
        """Float32 [T] blocks as they come, to the end of the recording. Engine's thread.

        Raises:
            RecordingCancelled: the client has left.
        """
        while True:
            data = self._blocks.get()
            if self.is_cancelled:
                raise RecordingCancelled
            if not data:
                return
            block = np.frombuffer(data, np.float32)
            self._on_pull(len(block))
            yield block
