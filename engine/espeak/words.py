"""The library's word starts, turned into the words of the text."""

from __future__ import annotations

from bisect import bisect_right

from engine.text import tokens
from engine.types import Word


class WordClock:
    """Gives each word of a segment once, in order.

    The library starts "2026" four times and "on the" once: further starts within a word are
    dropped, and a word without a start gets a time between its neighbours'.
    """

    def __init__(self, text: str, start_s: float) -> None:
        """Args: start_s: when the segment begins in its clip."""
        self._tokens = tokens(text)
        self._offsets = [token.start for token in self._tokens]
        self._next = 0
        self._last_s = start_s

    def start(self, position: int, start_s: float) -> list[Word]:
        """The words that have begun, now that the one at the offset `position` does."""
        index = bisect_right(self._offsets, position) - 1
        if index < self._next or position >= self._tokens[index].end:
            return []
        words = [*self._skipped(index, start_s), Word(self._tokens[index].text, start_s)]
        self._next, self._last_s = index + 1, start_s
        return words

    def finish(self, end_s: float) -> list[Word]:
        """The words left without a start, now that the segment is over."""
        return self._skipped(len(self._tokens), end_s)

    def _skipped(self, index: int, until_s: float) -> list[Word]:
        skipped = self._tokens[self._next : index]
        step_s = (until_s - self._last_s) / (len(skipped) + 1)
        return [
            Word(token.text, self._last_s + step_s * nth) for nth, token in enumerate(skipped, 1)
        ]
