"""From a caller's text to the pieces that GLM-TTS reads one after another."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from engine.glm_tts import split
from engine.glm_tts.normalize import Stretch, normalize, stretches
from engine.glm_tts.phonemes import PhonemeTables, PhonemeTagger
from engine.glm_tts.verbalize import NONE, load_verbalizers
from engine.text import clean

_PROMPTS = 256
"""Read once: a voice's prompt is the same in each request."""


class TextFrontEnd:
    """Takes any string. One thread at a time."""

    def __init__(
        self, *, normalize_numbers: bool = True, phonemes: PhonemeTables | None = None
    ) -> None:
        """Read grammars and dictionaries: a second or two, so that no request waits for them.

        Args:
            normalize_numbers: Write numbers, dates and units as words.
            phonemes: Read rare characters by these tables; None leaves them to the model.
        """
        self._verbalizers = load_verbalizers() if normalize_numbers else NONE
        self._tagger = None if phonemes is None else PhonemeTagger(phonemes)
        self._read_prompt = lru_cache(maxsize=_PROMPTS)(
            lambda text: normalize(clean(text), self._verbalizers)
        )
        # One text for each branch, so that what is loaded on demand is there.
        for text in ("Ready 一", "é1"):
            list(self.pieces(text))

    def pieces(self, text: str) -> Iterator[Stretch]:
        """What to speak in one go each, in order; none when nothing in the text can be said.

        The text is read as pieces are asked for. "|" is in a piece as part of a phoneme's tag only,
        whatever the caller wrote.
        """
        for piece in split.pieces(stretches(clean(text), self._verbalizers)):
            # Cutting leaves open ends; the numbers are words by now.
            if spoken := normalize(piece.text, NONE):
                yield Stretch(self._tagged(spoken), piece.before)

    def prompt(self, text: str) -> str:
        """What is said in a prompt, as the model expects it before the text."""
        return f"{self._read_prompt(text)} "

    def _tagged(self, piece: str) -> str:
        return piece if self._tagger is None else self._tagger.tag(piece)
