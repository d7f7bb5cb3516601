"""A transcript as a reader wants it."""

from __future__ import annotations

from collections.abc import Iterable

from engine.types import Segment


def as_text(segments: Iterable[Segment]) -> str:
    """The words alone, and the newline that ends a text file."""
    return "".join(segment.text for segment in segments).strip() + "\n"
