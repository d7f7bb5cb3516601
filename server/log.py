"""Log lines: `key=value`, one line an event."""

from __future__ import annotations

import json
import logging
import re

_BARE = re.compile(r"[\w.:/+%-]+", re.ASCII)
_VALUE_CHARS = 200


def log_to_stderr(level: str) -> None:
    """Send this process's log to standard error."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")


def quoted(value: str | float) -> str:
    """A value that may come from a client: none begins a line, or a field, of its own."""
    text = str(value)[:_VALUE_CHARS]
    return text if _BARE.fullmatch(text) else json.dumps(text)
