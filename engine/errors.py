"""What can go wrong in an engine.

EngineError
├── InvalidRequest            the request cannot be done as asked; `param` names the field
│   └── UnknownVoice          no such voice in this engine
├── PromptUnknown             the worker has no features of this prompt: prepare it first
├── Overloaded                taking it would starve others; come back in `retry_after_s`
├── EngineBusy                it has jobs in flight: it cannot be put to sleep now
└── EngineFault               not the caller's fault
    ├── LoadFailed            the engine could not start; its message says what to do
    ├── EngineBroken          it will never work again in this process, which has to be replaced
    ├── WorkerUnavailable     no worker can take it just now; come back in `retry_after_s`
    │   └── OutOfMemory       the engine's device, or the host, has no memory left for it just now
    └── WorkerDied            the worker process ended while the job ran

An error crosses the socket as (class name, message, param, retry_after_s): see `to_wire` and
`from_wire`. A MemoryError arrives as OutOfMemory; anything else that an engine raises is its bug
and arrives as an EngineFault.
"""

from __future__ import annotations

from msgspec import Struct


class EngineError(Exception):
    """Root of the tree; never raised itself."""

    param: str | None = None
    retry_after_s: float | None = None


class InvalidRequest(EngineError):
    """The request cannot be done as asked.

    Args:
        message: For the caller to read.
        param: The request's field at fault, by its wire name.
    """

    def __init__(self, message: str, param: str | None) -> None:
        super().__init__(message)
        self.param = param


class UnknownVoice(InvalidRequest):
    """No such voice in this engine."""

    def __init__(self, message: str, param: str | None = "voice") -> None:
        super().__init__(message, param)


class PromptUnknown(EngineError):
    """The worker has no features of this prompt yet."""


class Overloaded(EngineError):
    """Taking this job would starve others."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineBusy(EngineError):
    """The engine has jobs in flight."""


class EngineFault(EngineError):
    """The engine failed; the caller did nothing wrong."""


class LoadFailed(EngineFault):
    """The engine could not start."""


class EngineBroken(EngineFault):
    """The engine will never work again in this process. Raised by a plug-in: its worker ends."""


class WorkerUnavailable(EngineFault):
    """No worker of the engine can take this just now."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OutOfMemory(WorkerUnavailable):
    """There is no memory left for this just now."""


class WorkerDied(EngineFault):
    """The worker process ended while the job ran."""


class WireError(Struct, frozen=True, array_like=True):
    """An EngineError as it crosses the socket."""

    kind: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None


def to_wire(error: Exception) -> WireError:
    """Flatten an exception; one outside the tree tells no details."""
    if isinstance(error, EngineError):
        return WireError(type(error).__name__, str(error), error.param, error.retry_after_s)
    if isinstance(error, MemoryError):
        return to_wire(OutOfMemory("the engine has no memory left for this request", 2.0))
    return WireError(EngineFault.__name__, "the engine failed on this request")


def from_wire(error: WireError) -> EngineError:
    """Rebuild the exception that `to_wire` flattened."""
    match error.kind:
        case "InvalidRequest":
            return InvalidRequest(error.message, error.param)
        case "UnknownVoice":
            return UnknownVoice(error.message, error.param)
        case "PromptUnknown":
            return PromptUnknown(error.message)
        case "Overloaded":
            return Overloaded(error.message, error.retry_after_s or 1.0)
        case "OutOfMemory":
            return OutOfMemory(error.message, error.retry_after_s or 1.0)
        case "LoadFailed":
            return LoadFailed(error.message)
        case _:
            return EngineFault(error.message)
