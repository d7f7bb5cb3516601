"""Where a line of text may end: after words, or nearly anywhere in Chinese and Japanese."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from msgspec import Struct

# What neither breaks nor collapses: no-break spaces, wide and narrow.
_WORD = re.compile(r"[\S\u00a0\u202f]+")
_SPACE = re.compile(r"[^\S\u00a0\u202f]+")

_ZWJ = "\u200d"
_SMALL_KANA = frozenset("ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶ")


class Span(Struct, frozen=True):
    """A stretch of a text; `end` is exclusive."""

    start: int
    end: int


def wrap(text: str, columns: int) -> list[Span]:
    """Fill lines of at most `columns` width, without the white space around them.

    A word that is wider than a line is broken between two characters.
    """
    lines: list[Span] = []
    for piece in _pieces(text, columns):
        if lines and width(text[lines[-1].start : piece.end]) <= columns:
            lines[-1] = Span(lines[-1].start, piece.end)
        else:
            lines.append(piece)
    return lines


def on_one_line(text: str) -> str:
    """The text with one space for each stretch of white space."""
    return _SPACE.sub(" ", text)


def width(text: str) -> int:
    """Columns of a terminal that the text takes: 2 for what is wide in East Asia, 0 for marks."""
    return sum(map(_width, text))


def _width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _pieces(text: str, columns: int) -> Iterator[Span]:
    """The stretches between which a line may end, none wider than a line."""
    for word in _WORD.finditer(text):
        start, columns_taken = word.start(), 0
        for index in range(*word.span()):
            columns_taken += _width(text[index])
            if index > start and (
                _may_break(text, index) or (columns_taken > columns and not _is_joined(text, index))
            ):
                yield Span(start, index)
                start, columns_taken = index, _width(text[index])
        yield Span(start, word.end())


def _may_break(text: str, index: int) -> bool:
    """Whether a line may end between this character and the one before, neither being a space."""
    before, after = text[index - 1], text[index]
    return (
        (_is_unspaced(before) or _is_unspaced(after))
        and not _is_joined(text, index)
        and not _clings_back(after)
        and unicodedata.category(before) not in ("Ps", "Pi")
    )


def _is_unspaced(char: str) -> bool:
    """Wide, but no Hangul: Korean is written with spaces."""
    return unicodedata.east_asian_width(char) in "WF" and not "\uac00" <= char <= "\ud7a3"


def _clings_back(char: str) -> bool:
    """What no line begins with: closing and dividing marks, long vowels, small kana."""
    category = unicodedata.category(char)
    is_mark = category.startswith("P") and category not in ("Ps", "Pi")
    return is_mark or category == "Lm" or char in _SMALL_KANA


def _is_joined(text: str, index: int) -> bool:
    """Whether this character and the one before are drawn as one."""
    char = text[index]
    return (
        unicodedata.category(char).startswith("M")
        or _ZWJ in (char, text[index - 1])
        or "\U0001f3fb" <= char <= "\U0001f3ff"  # skin tones
    )
