"""Log lines of the server and of its workers: `key=value`, or JSON, one object a line."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, TypeAlias

LogFormat: TypeAlias = Literal["text", "json"]
LogValue: TypeAlias = str | float | bool | None

_ENV = "RHAPSODE_LOG_FORMAT"
"""Also the setting's own name in the environment, which workers inherit."""

_BARE = re.compile(r"[\w.:/+%-]+", re.ASCII)
_VALUE_CHARS = 200
_FIELD = r"\w+=(?:%(?:\.\d+)?[sdf]|[\w.-]+)"
_FIELDS = re.compile(rf"{_FIELD}(?: {_FIELD})*", re.ASCII)

logger = logging.getLogger(__name__)


class Fields:
    """The facts of one line, as the one argument of `logger.info("%s", ...)`; None is left out."""

    def __init__(self, facts: Mapping[str, LogValue]) -> None:
        known = ((name, value) for name, value in facts.items() if value is not None)
        self.facts = {name: Quoted(value) for name, value in known}

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.facts.items())


class Quoted:
    """A value that may come from a client: none is long, and in text none begins a line, or a
    field, of its own."""

    def __init__(self, value: LogValue) -> None:
        self.value = value[:_VALUE_CHARS] if isinstance(value, str) else value

    def __str__(self) -> str:
        text = str(self.value)
        return text if _BARE.fullmatch(text) else json.dumps(text)


class JsonFormatter(logging.Formatter):
    """A line as one JSON object: its `key=value` facts as fields, any other words as `message`, a
    traceback as `traceback`.

    The names in a line are constants of ours; only values come from outside.
    """

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": when,
            "level": record.levelname,
            "logger": record.name,
            **_facts(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr(level: str, log_format: LogFormat, text: str) -> None:
    """Send this process's log, and that of the workers that it starts, to standard error.

    Args:
        level: Lines below it are left out.
        log_format: In "json", an exception that nobody caught is a line too.
        text: Of a line in "text", in the grammar of `logging`.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(text))
    logging.basicConfig(level=level, handlers=[handler])
    if log_format == "text":
        os.environ.pop(_ENV, None)
        return
    os.environ[_ENV] = log_format
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_thread


def log_as_parent_does(level: str) -> None:
    """In a process that a server started: `log_to_stderr` in the format that it has chosen."""
    inherited: LogFormat = "json" if os.environ.get(_ENV) == "json" else "text"
    log_to_stderr(level, inherited, "%(asctime)s %(levelname)s %(name)s %(message)s")


def _facts(record: logging.LogRecord) -> dict[str, object]:
    """By the template, not by what it makes: a value may have spaces and signs of its own."""
    args = record.args if isinstance(record.args, tuple) else ()
    if args and isinstance(args[0], Fields):
        return {name: _plain(value) for name, value in args[0].facts.items()}
    template = str(record.msg)
    if not _FIELDS.fullmatch(template) or template.count("%") != len(args):
        return {"message": record.getMessage()}
    values = iter(args)
    pairs = (field.split("=", 1) for field in template.split(" "))
    return {name: _plain(next(values)) if "%" in text else text for name, text in pairs}


def _plain(value: object) -> object:
    """As JSON has it, which knows no infinity."""
    if isinstance(value, Quoted):
        value = value.value
    if value is None or isinstance(value, int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return str(value)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    logger.critical("event=crashed", exc_info=(kind, error, traceback))


def _log_thread(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread is not None else None
    error = args.exc_value
    info = (args.exc_type, error, args.exc_traceback) if error is not None else None
    logger.critical("event=thread_crashed thread=%s", name, exc_info=info)
