"""From a caller's text to the pieces that GLM-TTS reads one after another."""

from __future__ import annotations

from engine.glm_tts.normalize import normalize
from engine.glm_tts.phonemes import PhonemeTables, PhonemeTagger
from engine.glm_tts.split import split
from engine.glm_tts.verbalize import NONE, load_verbalizers
from engine.text import clean


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
        # One text for each branch, so that what is loaded on demand is there.
        self.pieces("Ready 一")
        self.pieces("é1")

    def pieces(self, text: str) -> list[str]:
        """What to speak in one go each, in order; empty when nothing in the text can be said.

        "|" is in a piece as part of a phoneme's tag only, whatever the caller wrote.
        """
        # Cutting leaves open ends; the numbers are words by now.
        pieces = (normalize(piece, NONE) for piece in split(self._normalized(text)))
        return [self._tagged(piece) for piece in pieces if piece]

    def prompt(self, text: str) -> str:
        """What is said in a prompt, as the model expects it before the text."""
        return f"{self._normalized(text)} "

    def _normalized(self, text: str) -> str:
        return normalize(clean(text), self._verbalizers)

    def _tagged(self, piece: str) -> str:
        return piece if self._tagger is None else self._tagger.tag(piece)
