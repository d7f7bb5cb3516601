"""Rare and ambiguous Chinese characters by their sound: "下棋弈" -> "下棋<|I4|>".

The tables are the checkpoint's: which characters the model reads well by itself, in which phrases
a character sounds like another, and which phonemes it has learnt.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

import msgspec
from msgspec import Struct

from engine.errors import LoadFailed

TAG = re.compile(r"<\|[A-Z]+[1-5]?\|>")
"""A phoneme as it stands in a text; no control token looks like it."""

_FOLDERS = ("configs", "frontend", ".")
_CHINESE = re.compile(r"[一-鿿]+")
_SOUNDS_LIKE = {"嗯": "恩", "呣": "母"}

_Table = TypeVar("_Table")
# A list, or an object whose keys matter.
_NAMES: msgspec.json.Decoder[list[str] | dict[str, object]] = msgspec.json.Decoder(
    list[str] | dict[str, object]
)
_PHRASES = msgspec.json.Decoder(dict[str, str])


class PhonemeTables(Struct, frozen=True):
    """What is read by sound."""

    plain: frozenset[str]
    """Characters that stay."""
    phrases: Mapping[str, str]
    """A phrase -> as many characters that sound like it."""
    phonemes: frozenset[str]
    """Names in upper case: "SH", "IAN2"."""

    @staticmethod
    def from_folder(folder: Path) -> PhonemeTables:
        """Read the three tables from a folder, or its `configs` or `frontend`.

        Raises:
            LoadFailed: one is missing, or not as it should be.
        """
        plain = _find(folder, "G2P_able_1word.json")
        phrases = _find(folder, "G2P_replace_dict.jsonl")
        phonemes = _find(folder, "G2P_all_phonemes.json")
        names = _decode(_NAMES, phonemes.read_bytes(), str(phonemes))
        return PhonemeTables(
            frozenset(_decode(_NAMES, plain.read_bytes(), str(plain))),
            _phrases(phrases),
            frozenset(name.upper() for name in names),
        )


def _find(folder: Path, name: str) -> Path:
    paths = [folder / place / name for place in _FOLDERS]
    if found := next((path for path in paths if path.is_file()), None):
        return found
    raise LoadFailed(f"phonemes need {name}, which is not in {folder}, its configs or its frontend")


def _phrases(path: Path) -> dict[str, str]:
    phrases: dict[str, str] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            pairs: dict[str, str] = _decode(_PHRASES, line, f"{path}, line {number}")
            phrases |= pairs
    for phrase, sounds in phrases.items():
        if len(phrase) != len(sounds):
            raise LoadFailed(f"{path}: {phrase} and {sounds} differ in length")
    return phrases


def _decode(decoder: msgspec.json.Decoder[_Table], data: bytes, where: str) -> _Table:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise LoadFailed(f"{where}: {exc}") from exc


class _Word(Protocol):
    word: str


class _Segmenter(Protocol):
    def lcut(self, sentence: str) -> list[_Word]: ...


class PhonemeTagger:
    """Puts tags for the characters that the tables do not leave to the model. One thread."""

    def __init__(self, tables: PhonemeTables) -> None:
        self._tables = tables
        longest_first = sorted(tables.phrases, key=len, reverse=True)
        self._phrase = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._segmenter = _segmenter()

    def tag(self, text: str) -> str:
        """Replace what is read by sound; text must be normalised, so that no tag is in it yet."""
        heard = self._phrase.sub(lambda match: self._tables.phrases[match.group()], text)
        return "".join(
            char if sound is None or char in self._tables.plain else sound
            for char, sound in zip(text, self._sounds(heard), strict=True)
        )

    def _sounds(self, text: str) -> list[str | None]:
        """For each character its tags, or None for what is no Chinese or has no known sound."""
        sounds: list[str | None] = [None] * len(text)
        for run in _CHINESE.finditer(text):
            syllables = [
                syllable
                for word in self._segmenter.lcut(run.group())
                for syllable in _syllables(word.word)
            ]
            sounds[run.start() : run.end()] = map(self._tags, syllables)
        return sounds

    def _tags(self, syllable: tuple[str, str]) -> str | None:
        names = [part.upper() for part in _spelt_out(*syllable) if part]
        if not names or not self._tables.phonemes.issuperset(names):
            return None
        return "".join(f"<|{name}|>" for name in names)


def _syllables(word: str) -> list[tuple[str, str]]:
    """Initial and final of each character: 人参 -> ("r", "en2"), ("sh", "en1")."""
    from pypinyin import Style, lazy_pinyin

    word = "".join(_SOUNDS_LIKE.get(char, char) for char in word)
    initials = lazy_pinyin(word, Style.INITIALS, _nothing)  # type: ignore[arg-type]
    finals = lazy_pinyin(
        word,
        Style.FINALS_TONE3,
        _nothing,  # type: ignore[arg-type]  # its types forget that a list is taken
        neutral_tone_with_five=True,
    )
    return list(zip(initials, finals, strict=True))


def _nothing(unknown: str) -> list[str]:
    """Keeps the place of characters without a known sound."""
    return [""] * len(unknown)


def _spelt_out(initial: str, final: str) -> tuple[str, str]:
    """The three vowels that pinyin writes "i" are told apart."""
    if initial in ("zh", "ch", "sh", "r"):
        return initial, re.sub("^i", "iii", final)
    if initial in ("z", "c", "s"):
        return initial, re.sub("^i", "ii", final)
    return initial, final


def _segmenter() -> _Segmenter:
    with warnings.catch_warnings():
        # Its source has escapes that Python warns of when it first compiles them.
        warnings.simplefilter("ignore")
        import jieba
        from jieba.posseg import POSTokenizer

    jieba.setLogLevel(logging.WARNING)
    dictionary = jieba.Tokenizer()
    with TemporaryDirectory() as folder:
        # Its cache would lie in the common temporary folder, for anybody to write.
        dictionary.tmp_dir = folder
        dictionary.initialize()
    segmenter: _Segmenter = POSTokenizer(dictionary)
    return segmenter
