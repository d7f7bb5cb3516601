"""Numbers, dates and units as words, by the grammars of WeTextProcessing (package `wetext`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

from msgspec import Struct

Verbalize: TypeAlias = Callable[[str], str]
"""Writes what is not a word in a clause as words; leaves the rest of it as it is."""

# A grammar's time grows faster than its text, so it gets a clause at a time. A short word before
# the mark may be an abbreviation: "No. 5" stays whole.
_CLAUSE_END = re.compile(r"(?<=[。！？；，、])|(?<=[^\W\d_]{4}[.!?,;])(?=\s)")
_NO_CLAUSE = re.compile(r".{1,100}(?!\S)|.{1,100}", re.DOTALL)
# What the English grammar may change. It costs 5 ms for 100 characters, and most prose has none.
_HARMLESS = (
    r"[A-Z](?!hur\b)[a-z]{3,}|A|I|All|And|Are|As|At|But|By|Do|For|He|Her|His|How|If|In|Is|It|Its|My"
    r"|No|Not|Now|Of|On|One|Or|Our|She|So|That|The|To|Was|We|Who|Why|Yes|You"
)
_MAY_CHANGE = re.compile(rf"[\d_]|[^\w\s,.!?;:’“”]|\.\s*\S|\b(?!(?:{_HARMLESS})\b)[A-Z]")
# Which take it longest: 20 to 40 ms for a line of hyphens, and it says none of them.
_ONLY_MARKS = re.compile(r"[\s,.!?;:’“”()‐–—•-]*")


class Verbalizers(Struct, frozen=True):
    """One for each branch of the normaliser."""

    chinese: Verbalize
    english: Verbalize


def _unchanged(text: str) -> str:
    return text


NONE = Verbalizers(_unchanged, _unchanged)
"""Leaves numbers to the normaliser, which spells English ones and keeps Chinese ones."""


def load_verbalizers() -> Verbalizers:
    """Read the grammars: 0.4 s, 45 MB. What it gives is for one thread at a time."""
    from wetext import Normalizer

    chinese = Normalizer(
        lang="zh", operator="tn", remove_erhua=False, full_to_half=True, remove_interjections=False
    )
    english = Normalizer(lang="en", operator="tn")

    def verbalize_english(clause: str) -> str:
        if _ONLY_MARKS.fullmatch(clause) or not _MAY_CHANGE.search(clause):
            return clause
        try:
            return str(english.normalize(clause))
        except AssertionError:
            # How wetext says that its grammar has no path: "é3", "①3". Digits are spelt later.
            return clause

    return Verbalizers(
        _spaced(lambda clause: str(chinese.normalize(clause))), _spaced(verbalize_english)
    )


def _spaced(verbalize: Verbalize) -> Verbalize:
    """With the space before a clause kept, which the grammars drop."""
    return lambda clause: " " * clause[0].isspace() + verbalize(clause.strip())


def clauses(text: str) -> Iterator[str]:
    """What is verbalised at a time, none of them empty; joined, they are the text."""
    for clause in _CLAUSE_END.split(text):
        yield from _NO_CLAUSE.findall(clause)
