"""Streams of work on a device that go on beside each other."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


class Lane:
    """What is launched in it runs in order; two lanes wait for nothing of each other.

    Args:
        device: A host has one lane, whatever is asked for.
        urgency: Kernels of the most urgent lane, 2 at most, are the next to get a multiprocessor
            that becomes free. Graphs have to be recorded in it for that.
    """

    def __init__(self, device: torch.device, *, urgency: int = 0) -> None:
        self.stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device, priority=-urgency)  # type: ignore[no-untyped-call]

    def use(self) -> AbstractContextManager[object]:
        """What this thread launches and allocates meanwhile belongs to the lane."""
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def follow(self, other: Lane) -> None:
        """What it is given from now on waits for what another was given so far."""
        if self.stream is not None and other.stream is not None:
            self.stream.wait_stream(other.stream)

    def mark(self) -> torch.cuda.Event | None:
        """An event that comes when all that was launched is done; None: it is."""
        if self.stream is None:
            return None
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(self.stream)
        return event
