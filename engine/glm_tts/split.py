"""Cuts a normalised text into pieces that GLM-TTS speaks in one go.

Lengths count what is said, roughly: 1 for a character or a mark, 0.7 for a syllable of English.
Kana and Hangul count like Han and words beyond ASCII by their letters, where the original counts
one for any word; and a stretch without marks is cut by its length, where the original counts its
units and may run out of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from engine.glm_tts.chinese import MARKS
from engine.glm_tts.normalize import Stretch

_MIN_LENGTH = 30.0
_MAX_LENGTH = 60.0
_PER_SYLLABLE = 0.7
_PER_LETTER = 0.35
_MAX_LETTERS = 40
"""Of a unit: beyond, it is no word."""

# Iteration marks, Kana, Han, Hangul.
_SYLLABLES = (
    "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\U00020000-\U000323af"
)
_LETTER = rf"[^\W\d_{_SYLLABLES}]"
_WORD = rf"{_LETTER}(?:{_LETTER}|['-]){{0,{_MAX_LETTERS - 1}}}"
# Space goes with what precedes it.
_UNIT = re.compile(rf"\s+|(?:[{_SYLLABLES}]|{_WORD}|\S)\s*")
_SYLLABLE = re.compile(f"[{_SYLLABLES}]")
_VOWELS = re.compile("[aeiouy]+")


def units(text: str) -> list[str]:
    """The least that a cut keeps whole: a character, or a word, with the space after it."""
    return _UNIT.findall(text)


def length(unit: str) -> float:
    """How long it takes to say, in Chinese characters."""
    word = unit.strip()
    if not word.isalpha() or _SYLLABLE.match(word):
        return 1.0
    if not word.isascii():
        return _PER_LETTER * len(word)
    return _PER_SYLLABLE * _syllables(word.lower())


def split(text: str) -> list[str]:
    """All of a text's pieces; joined, they are the text."""
    return [piece.text for piece in pieces([Stretch(text, before=0.0)])]


def pieces(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """Cut after a mark once 30 are reached, and where 60 are; asks for no more than that takes.

    Args:
        stretches: That end between two units.
    """
    piece, before = "", 0.0
    since_mark = since_cut = 0.0
    for stretch in stretches:
        for unit in units(stretch.text):
            is_mark, unit_length = unit.strip() in MARKS, length(unit)
            since_mark, since_cut = since_mark + unit_length, since_cut + unit_length
            # A mark stays with what it ends.
            if since_cut > _MAX_LENGTH and not is_mark:
                yield Stretch(piece, before)
                piece, since_cut = "", unit_length
            before = before if piece else stretch.before
            piece += unit
            if is_mark and since_mark >= _MIN_LENGTH:
                yield Stretch(piece, before)
                piece, since_mark, since_cut = "", 0.0, 0.0
    if piece:
        yield Stretch(piece, before)


@lru_cache(maxsize=8192)
def _syllables(word: str) -> int:
    """By the CMU dictionary; a word not in it has one for each group of vowels."""
    import pronouncing

    if phones := pronouncing.phones_for_word(word):
        return int(pronouncing.syllable_count(phones[0]))
    return max(1, len(_VOWELS.findall(word)), len(word) // 5)
