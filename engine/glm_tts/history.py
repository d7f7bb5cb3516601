"""What a job has said so far, given back to the language model as its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from msgspec import Struct

MAX_SPEECH_TOKENS = 750
"""30 s: the prompt and the piece to come."""


class _Entry(Struct, frozen=True):
    text_ids: tuple[int, ...]
    speech_tokens: tuple[int, ...]


class History:
    """The original prompt, and the pieces after it; the oldest pieces are forgotten."""

    def __init__(
        self,
        text_ids: Sequence[int],
        speech_tokens: Sequence[int],
        max_speech_tokens: int = MAX_SPEECH_TOKENS,
    ) -> None:
        """Begin with the original prompt, which is never forgotten.

        Args:
            text_ids: Of what is said in it; empty without a prompt.
            speech_tokens: Of its sound, likewise.
            max_speech_tokens: Of the prompts and the piece to come.
        """
        self._prompt = _Entry(tuple(text_ids), tuple(speech_tokens))
        self._pieces: list[_Entry] = []
        self._max_speech_tokens = max_speech_tokens

    def add(self, text_ids: Sequence[int], speech_tokens: Sequence[int]) -> None:
        """Remember a piece that has been spoken."""
        self._pieces.append(_Entry(tuple(text_ids), tuple(speech_tokens)))

    def forget(self) -> bool:
        """Forget all pieces; the original prompt stays. False: there were none."""
        had_pieces = bool(self._pieces)
        self._pieces.clear()
        return had_pieces

    def prompt_for(self, text_ids: Sequence[int]) -> tuple[list[int], list[int]]:
        """Text ids and speech tokens to go before a piece.

        Forgets, for good, what would leave the piece no room: its length is judged by the pace of
        all that is remembered before.
        """
        text_tokens = sum(len(entry.text_ids) for entry in self._entries())
        speech_tokens = sum(len(entry.speech_tokens) for entry in self._entries())
        estimate = int(speech_tokens / text_tokens * len(text_ids)) if text_tokens else 0
        while self._pieces and speech_tokens + estimate > self._max_speech_tokens:
            speech_tokens -= len(self._pieces.pop(0).speech_tokens)
        entries = self._entries()
        return (
            list(chain.from_iterable(entry.text_ids for entry in entries)),
            list(chain.from_iterable(entry.speech_tokens for entry in entries)),
        )

    def _entries(self) -> list[_Entry]:
        return [self._prompt, *self._pieces]
