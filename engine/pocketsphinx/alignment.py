"""A text as the words of a pronouncing dictionary, and their times as those of the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from msgspec import Struct

from engine.text import tokens
from engine.types import SpokenWord


class Known(Struct, frozen=True):
    """A word of the text that the dictionary has, itself or in parts."""

    text: str
    """As it stands in the text, without punctuation."""
    entries: tuple[str, ...]
    """Of the dictionary: "well-known" is two."""


def known_words(text: str, knows: Callable[[str], bool]) -> list[Known]:
    """The words of the text that the dictionary has; numbers it never has."""
    words = [Known(token.text, _entries(token.text, knows)) for token in tokens(text)]
    return [word for word in words if all(map(knows, word.entries))]


def _entries(word: str, knows: Callable[[str], bool]) -> tuple[str, ...]:
    spelling = word.lower().replace("’", "'")
    return (spelling,) if knows(spelling) else tuple(filter(None, spelling.split("-")))


def timed(words: Sequence[Known], entries: Sequence[SpokenWord]) -> tuple[SpokenWord, ...]:
    """The words with their times, from those of their entries, which are all there in order."""
    rest = iter(entries)
    return tuple(_joined(word.text, list(islice(rest, len(word.entries)))) for word in words)


def _joined(text: str, parts: Sequence[SpokenWord]) -> SpokenWord:
    probability = min(part.probability for part in parts)
    return SpokenWord(text, parts[0].start_s, parts[-1].end_s, probability)
