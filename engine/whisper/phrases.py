"""The tokens of a window, cut at the timestamps among them."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

_TIMESTAMPS_PER_S = 50


class Phrase(Struct, frozen=True):
    """Text between two timestamps; times are seconds from the start of the window."""

    start_s: float
    end_s: float
    tokens: tuple[int, ...]
    """With its timestamps."""


def split_phrases(tokens: Iterable[int], first_timestamp: int, duration_s: float) -> list[Phrase]:
    """Each phrase that has text, whether or not its timestamps are there.

    Where speech goes on beyond the window, Whisper leaves the last timestamp out.

    Args:
        tokens: Text and timestamps; the latter never go back.
        first_timestamp: The token of 0 s. All above are timestamps, all below are text.
        duration_s: Of the window; nothing ends later.
    Returns:
        In order, without overlap.
    """
    phrases: list[Phrase] = []
    pending: list[int] = []
    start_s, has_text = 0.0, False
    for token in tokens:
        pending.append(token)
        if token < first_timestamp:
            has_text = True
            continue
        time_s = max(start_s, min((token - first_timestamp) / _TIMESTAMPS_PER_S, duration_s))
        if has_text:
            phrases.append(Phrase(start_s, time_s, tuple(pending)))
        # A timestamp that closes no text opens the next.
        pending = [] if has_text else [token]
        start_s, has_text = time_s, False
    if has_text:
        phrases.append(Phrase(start_s, duration_s, tuple(pending)))
    return phrases
