"""Waiting for something that another process does."""

import threading
import time
from collections.abc import Callable

PAUSE_S = 0.01


def wait_for(condition: Callable[[], bool], within_s: float, what: str) -> None:
    """Look again and again until `condition` holds.

    Raises:
        TimeoutError: it did not hold `within_s` seconds from now; the message names `what`.
    """
    pause = threading.Event()
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s} s: {what}")
        pause.wait(PAUSE_S)
