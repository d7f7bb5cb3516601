"""Log lines: `key=value`, or JSON, one line an event."""

from __future__ import annotations

from engine.runtime.log import LogFormat, Quoted
from engine.runtime.log import log_to_stderr as begin_log


def log_to_stderr(level: str, log_format: LogFormat = "text") -> None:
    """Send this process's log, and its workers', to standard error."""
    begin_log(level, log_format, "%(asctime)s %(levelname)s %(message)s")


def quoted(value: str | float) -> Quoted:
    """A value that may come from a client, for a line's `%s`."""
    return Quoted(value)
