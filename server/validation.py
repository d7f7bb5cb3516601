"""Reads what msgspec says of bad input: which field, and what is wrong with it."""

from __future__ import annotations

import re

import msgspec

_MISSING = re.compile(r"missing required field `([^`]+)`")
_PATH = re.compile(r"^(?P<message>.*) - at `(?:key in )?\$\.?(?P<path>[^`]*)`$", re.DOTALL)


def explain(error: msgspec.ValidationError) -> tuple[str | None, str]:
    """The dotted path of the field at fault, where there is one, and the message without it."""
    message, path = str(error), ""
    if (match := _PATH.match(message)) is not None:
        message, path = match["message"], match["path"]
    if (missing := _MISSING.search(message)) is not None:
        path = f"{path}.{missing[1]}" if path else missing[1]
    return path or None, message
