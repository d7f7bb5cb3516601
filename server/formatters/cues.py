"""A segment as subtitles: at most two lines at a time."""

from __future__ import annotations

from itertools import accumulate, pairwise

import numpy as np
from msgspec import Struct

from engine.types import Segment
from server.formatters.lines import on_one_line, wrap

_COLUMNS = 42
_LINES = 2


class Cue(Struct, frozen=True):
    """What is on the screen at a time. Seconds from the start of the recording."""

    start_s: float
    end_s: float
    lines: tuple[str, ...]
    """Not empty; without white space around them."""


def cues_of(segment: Segment) -> list[Cue]:
    """The segment in as many cues as its text fills, one after the other; none without text.

    Within the segment a cue begins with its first word; if the segment's words are not known, by
    the share of the text that is before it.
    """
    lines = wrap(segment.text, _COLUMNS)
    groups = [lines[start : start + _LINES] for start in range(0, len(lines), _LINES)]
    begins_s = _times_s(segment, [group[0].start for group in groups[1:]])
    bounds = pairwise([segment.start_s, *begins_s, segment.end_s])
    return [
        Cue(
            start_s,
            end_s,
            tuple(on_one_line(segment.text[line.start : line.end]) for line in group),
        )
        for (start_s, end_s), group in zip(bounds, groups, strict=False)
    ]


def _times_s(segment: Segment, offsets: list[int]) -> list[float]:
    """When the text at each of the offsets is spoken."""
    texts = [word.text for word in segment.words]
    if "".join(texts) != segment.text:
        known, times_s = [0], [segment.start_s]
    else:
        ends = accumulate(map(len, texts))
        known = [end - len(text.lstrip()) for end, text in zip(ends, texts, strict=True)]
        times_s = [word.start_s for word in segment.words]
    times = np.interp(offsets, [*known, len(segment.text)], [*times_s, segment.end_s])
    return [float(time_s) for time_s in times]
