"""Cuts a normalised text into pieces that GLM-TTS speaks in one go.

Lengths count what is said, roughly: 1 for a character or a mark, 0.7 for a syllable of English.
Kana and Hangul count like Han and words beyond ASCII by their letters, where the original counts
one for any word; and a stretch without marks is cut by its length, where the original counts its
units and may run out of them.
"""

from __future__ import annotations

import re
from functools import lru_cache

from engine.glm_tts.chinese import MARKS

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
_VOWELS = re.compile("[aeiouy]+")


def units(text: str) -> list[str]:
    """The least that a cut keeps whole: a character, or a word, with the space after it."""
    return _UNIT.findall(text)


def length(unit: str) -> float:
    """How long it takes to say, in Chinese characters."""
    word = unit.strip()
    if not word.isalpha() or re.match(f"[{_SYLLABLES}]", word):
        return 1.0
    if not word.isascii():
        return _PER_LETTER * len(word)
    return _PER_SYLLABLE * _syllables(word.lower())


def split(text: str) -> list[str]:
    """Cut after a mark once 30 are reached, and where 60 are; joined, pieces are the text."""
    pieces: list[str] = []
    start, total = 0, 0.0
    every = units(text)
    for index, unit in enumerate(every):
        total += length(unit)
        if unit.strip() in MARKS and total >= _MIN_LENGTH:
            pieces += _cut_long(every[start : index + 1])
            start, total = index + 1, 0.0
    return pieces + _cut_long(every[start:])


def _cut_long(piece: list[str]) -> list[str]:
    cuts: list[str] = []
    start, total = 0, 0.0
    for index, unit in enumerate(piece):
        total += length(unit)
        # A mark stays with what it ends.
        if total > _MAX_LENGTH and unit.strip() not in MARKS:
            cuts.append("".join(piece[start:index]))
            start, total = index, length(unit)
    return [*cuts, "".join(piece[start:])] if start < len(piece) else cuts


@lru_cache(maxsize=8192)
def _syllables(word: str) -> int:
    """By the CMU dictionary; a word not in it has one for each group of vowels."""
    import pronouncing

    if phones := pronouncing.phones_for_word(word):
        return int(pronouncing.syllable_count(phones[0]))
    return max(1, len(_VOWELS.findall(word)), len(word) // 5)
