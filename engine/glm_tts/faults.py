"""What PyTorch raises, as the runtime understands it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from engine.errors import EngineBroken, EngineError


def is_fatal(exc: Exception) -> bool:
    """Whether the device will fail every later call of this process too.

    After a failed assertion or a bad address in a kernel, CUDA repeats the error for ever; most
    others it reports once. What it raises does not tell which, so the device itself is asked; that
    waits for what it still does.
    """
    is_in_use: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    if isinstance(exc, EngineError) or not is_in_use:
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


@contextmanager
def translated() -> Iterator[None]:
    """Around what uses the device; a decorator too.

    Raises:
        MemoryError: the device's memory is full.
        EngineBroken: the device works no more in this process.
    """
    try:
        yield
    except torch.OutOfMemoryError as exc:
        raise MemoryError("the device's memory is full") from exc
    except Exception as exc:
        if is_fatal(exc):
            raise EngineBroken("the device failed, and the engine has to start anew") from exc
        raise
