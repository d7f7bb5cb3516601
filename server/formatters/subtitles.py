"""Transcripts as SubRip and WebVTT, a segment at a time, so that one of hours needs no memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.types import Segment
from server.formatters.cues import Cue, cues_of


class _Formatter:
    """Places cues in time. Those of overlapping segments overlap, as people who speak at once do;
    but no cue begins before the one in front of it, nor is one over as it begins: WebVTT says so.
    """

    header = ""
    """What the file begins with."""

    def __init__(self) -> None:
        self._count = 0
        self._latest_start_ms = 0

    def push(self, segment: Segment) -> str:
        """The cues of the next segment, each with the blank line that ends it; maybe none."""
        return "".join(map(self._place, cues_of(segment)))

    def _place(self, cue: Cue) -> str:
        start_ms = max(round(cue.start_s * 1000), self._latest_start_ms)
        end_ms = max(round(cue.end_s * 1000), start_ms + 1)
        self._latest_start_ms = start_ms
        self._count += 1
        return self._write(self._count, start_ms, end_ms, cue.lines)

    def _write(self, number: int, start_ms: int, end_ms: int, lines: Sequence[str]) -> str:
        raise NotImplementedError


class SrtFormatter(_Formatter):
    """SubRip, numbered from 1. It has no way to escape anything, and needs none: no cue holds a
    blank line.
    """

    def _write(self, number: int, start_ms: int, end_ms: int, lines: Sequence[str]) -> str:
        times = f"{_clock(start_ms, ',')} --> {_clock(end_ms, ',')}"
        return "\n".join([str(number), times, *lines, "", ""])


class VttFormatter(_Formatter):
    """WebVTT; what would be markup in the text is escaped."""

    header = "WEBVTT\n\n"

    def _write(
        self,
        number: int,  # noqa: ARG002  WebVTT needs none
        start_ms: int,
        end_ms: int,
        lines: Sequence[str],
    ) -> str:
        times = f"{_clock(start_ms, '.')} --> {_clock(end_ms, '.')}"
        return "\n".join([times, *map(_escaped, lines), "", ""])


def as_srt(segments: Iterable[Segment]) -> str:
    """The whole SubRip file; empty if nothing was said."""
    return _whole(SrtFormatter(), segments)


def as_vtt(segments: Iterable[Segment]) -> str:
    """The whole WebVTT file."""
    return _whole(VttFormatter(), segments)


def _whole(formatter: _Formatter, segments: Iterable[Segment]) -> str:
    return "".join([formatter.header, *map(formatter.push, segments)])


def _clock(time_ms: int, point: str) -> str:
    seconds, ms = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{ms:03}"


def _escaped(line: str) -> str:
    """With this no line can hold the arrow of a cue's times either."""
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
