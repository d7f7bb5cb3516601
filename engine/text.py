"""Text as an engine wants it: cleaned, in runs of one script, in pieces short enough for one step.

Offsets are code points. Nothing here knows a language, only Unicode.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from msgspec import Struct

_ZWNJ, _ZWJ = "\u200c", "\u200d"
_CLOSERS = "\"'”’»›)\\]}」』）】》〉"
_SENTENCE_END = re.compile(rf"[.!?…]+[{_CLOSERS}]*\s+|[。！？｡।॥۔؟။።]+[{_CLOSERS}]*\s*|\n\s*\n\s*")
_CLAUSE_END = re.compile(rf"[,;:—]+[{_CLOSERS}]*\s+|[、，；：،؛]+[{_CLOSERS}]*\s*")
_SPACE = re.compile(r"\s+")
_CLAUSE_AT_END = re.compile(rf"([.!?…,;:—。！？｡।॥۔؟။።、，；：،؛][{_CLOSERS}]*\s*|\n\s*\n\s*)\Z")
_TOKEN = re.compile(r"[^\s、。，．！？；：「」『』（）《》〈〉【】]+")

# First word of a character's Unicode name -> ISO 15924. Kana counts as Jpan, Han as Hani.
_SCRIPTS = {
    "LATIN": "Latn", "CYRILLIC": "Cyrl", "GREEK": "Grek", "ARMENIAN": "Armn", "GEORGIAN": "Geor",
    "HEBREW": "Hebr", "ARABIC": "Arab", "ARABIC-INDIC": "Arab", "ETHIOPIC": "Ethi",
    "DEVANAGARI": "Deva", "BENGALI": "Beng", "GURMUKHI": "Guru", "GUJARATI": "Gujr",
    "ORIYA": "Orya", "TAMIL": "Taml", "TELUGU": "Telu", "KANNADA": "Knda", "MALAYALAM": "Mlym",
    "SINHALA": "Sinh", "THAI": "Thai", "MYANMAR": "Mymr", "CHEROKEE": "Cher", "SHAVIAN": "Shaw",
    "CJK": "Hani", "IDEOGRAPHIC": "Hani", "BOPOMOFO": "Hani", "HANGUL": "Hang",
    "HIRAGANA": "Jpan", "KATAKANA": "Jpan", "KATAKANA-HIRAGANA": "Jpan",
}  # fmt: skip
_NAME_PREFIXES = frozenset({"FULLWIDTH", "HALFWIDTH", "EXTENDED"})


class Run(Struct, frozen=True):
    """A stretch of text in one script."""

    text: str
    script: str | None
    """ISO 15924; None when it has no letters of a script known here."""


class Token(Struct, frozen=True):
    """A word where it stands in a text."""

    text: str
    """Without surrounding punctuation; never empty."""
    start: int
    end: int
    """Offsets of the word with its punctuation; `end` is exclusive."""


def clean(text: str) -> str:
    """Make any string speakable and encodable: NFC, no control, surrogate or format character.

    What stood for space stays space. The two joiners stay, for Indic, Persian and emoji.
    """
    return "".join(map(_clean_character, unicodedata.normalize("NFC", text)))


def _clean_character(char: str) -> str:
    if char in ("\n", _ZWNJ, _ZWJ):
        return char
    match unicodedata.category(char):
        case "Cc" | "Cs":
            return " "
        case "Zl" | "Zp":
            return "\n"
        case "Cf":
            return ""
    return char


@lru_cache(maxsize=8192)
def script_of(char: str) -> str | None:
    """ISO 15924 script of a letter or native digit; None for what all scripts share.

    Bopomofo counts as Han, Hiragana and Katakana as Japanese.
    """
    if not char.isalnum():
        return None
    words = unicodedata.name(char, "").split()
    return next((_SCRIPTS.get(word) for word in words if word not in _NAME_PREFIXES), None)


def script_runs(text: str) -> list[Run]:
    """Cut a text where its script changes; joined, the runs are the text again.

    Digits, spaces and punctuation stay with what precedes them, opening brackets and quotes go
    with what follows. Han is Japanese as soon as the text has Kana anywhere.
    """
    han = "Jpan" if any(script_of(char) == "Jpan" for char in text) else "Hani"
    runs: list[Run] = []
    start, current = 0, None
    for index, char in enumerate(text):
        script = script_of(char)
        if script == "Hani":
            script = han
        if script is None or script == current:
            continue
        if current is not None:
            cut = _before_openers(text, index)
            runs.append(Run(text[start:cut], current))
            start = cut
        current = script
    return [*runs, Run(text[start:], current)] if text else []


def _before_openers(text: str, index: int) -> int:
    while unicodedata.category(text[index - 1]) in ("Ps", "Pi"):
        index -= 1
    return index


def weight(char: str) -> int:
    """Roughly how long a character takes to say: 1 for a letter, 2 for a syllable, digit or sign.

    8 for a letter of a script unknown here: at best an engine says its name.
    """
    if char.isalpha() and script_of(char) is None:
        return 8
    is_wide = unicodedata.east_asian_width(char) in "WF"
    return 2 if is_wide or unicodedata.category(char)[0] in "NS" else 1


def split(text: str, limit: int) -> list[str]:
    """Cut a text into pieces of at most `limit` weight; joined, they are the text again.

    Cuts after the last sentence that fits, else after the last clause, else after a space, else
    between two graphemes, else anywhere.
    """
    pieces: list[str] = []
    start = 0
    while (reach := _reach(text, start, limit)) < len(text):
        cut = _best_cut(text, start, reach)
        pieces.append(text[start:cut])
        start = cut
    return [*pieces, text[start:]] if start < len(text) else pieces


def _reach(text: str, start: int, limit: int) -> int:
    """Where the longest piece from `start` ends; it has at least one character."""
    total = 0
    for index in range(start, len(text)):
        total += weight(text[index])
        if total > limit:
            return max(index, start + 1)
    return len(text)


def _best_cut(text: str, start: int, reach: int) -> int:
    for boundary in (_SENTENCE_END, _CLAUSE_END, _SPACE):
        cuts = [match.end() for match in boundary.finditer(text, start, reach)]
        if whole := [cut for cut in cuts if not _joins(text, cut)]:
            return whole[-1]
    return next((cut for cut in range(reach, start, -1) if not _joins(text, cut)), reach)


def _joins(text: str, index: int) -> bool:
    """Whether a cut before `index` would tear a grapheme."""
    char = text[index]
    return (
        unicodedata.category(char).startswith("M")
        or char in (_ZWJ, _ZWNJ)
        or text[index - 1] == _ZWJ
        or "\U0001f3fb" <= char <= "\U0001f3ff"  # skin tones
        or "\u1160" <= char <= "\u11ff"  # vowels and finals of a Hangul syllable in parts
    )


def ends_clause(text: str) -> bool:
    """Whether a speaker would pause after this text."""
    return _CLAUSE_AT_END.search(text) is not None


def tokens(text: str) -> list[Token]:
    """The words of a text; text without spaces gives one for each stretch between punctuation."""
    found = (Token(_bare(m.group()), m.start(), m.end()) for m in _TOKEN.finditer(text))
    return [token for token in found if token.text]


def _bare(word: str) -> str:
    """The word from its first letter, digit or sign, without the punctuation after its last."""
    kinds = [unicodedata.category(char)[0] for char in word]
    said = [index for index, kind in enumerate(kinds) if kind in "LNS"]
    if not said:
        return ""
    last = max(index for index, kind in enumerate(kinds) if kind in "LNSM")
    return word[said[0] : last + 1]
