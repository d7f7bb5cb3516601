"""Server-sent events of a speech stream."""

import base64
import json
from collections.abc import Iterable
from typing import Any, TypeAlias

Event: TypeAlias = dict[str, Any]


def event_of(line: str) -> Event:
    """The event that one `data:` line holds.

    Raises:
        ValueError: the line is not such a line, or its data is not JSON.
    """
    prefix, _, data = line.partition(": ")
    if prefix != "data":
        raise ValueError(f"not a data line: {line!r}")
    event: Event = json.loads(data)
    return event


def events_of(lines: Iterable[str]) -> list[Event]:
    """All events of a stream whose every event is one line and then a blank one."""
    return [event_of(line) for line in lines if line]


def audio_of(events: Iterable[Event]) -> bytes:
    """The deltas' bytes; each delta is base64 by itself."""
    return b"".join(
        base64.b64decode(event["audio"], validate=True)
        for event in events
        if event["type"] == "speech.audio.delta"
    )
