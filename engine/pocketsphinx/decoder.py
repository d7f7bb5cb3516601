"""The pocketsphinx library: a short stretch of English to words with times."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pocketsphinx import Decoder

from engine.types import SpokenWord

_FRAMES_PER_S = 100

# The language model counts for less than by default (6.5 and 8.5). Over 40 sentences the word error
# rate falls from 45 to 42 % on three espeak-ng voices and stays at 13 % on two flite ones; the
# search takes 15 % more time.
_LANGUAGE_WEIGHT = 5.5
_SECOND_PASS_LANGUAGE_WEIGHT = 7.5

# "read(2)" is the dictionary's second way to say "read".
_PRONUNCIATION = re.compile(r"\(\d+\)$")

# "<s>", "<sil>", "[NOISE]", "[SPEECH]": what the model hears where there is no word.
_FILLERS = ("<", "[")


class WordDecoder:
    """Each call stands for itself: what was heard before makes no difference.

    All times are seconds from the start of the call's own sound, which is 16-bit mono at 16 kHz.
    A call holds the GIL until it is done.
    """

    def __init__(self) -> None:
        """Raises: RuntimeError: the model cannot be read."""
        self._decoder = Decoder(
            lw=_LANGUAGE_WEIGHT, fwdflatlw=_SECOND_PASS_LANGUAGE_WEIGHT, loglevel="FATAL"
        )

    def knows(self, word: str) -> bool:
        """Whether the dictionary has the word, in lower case."""
        is_filler = word.startswith(_FILLERS)
        return not is_filler and self._decoder.lookup_word(word) is not None

    def hear(self, pcm: bytes) -> list[SpokenWord]:
        """The words that were said, in lower case; none in silence or noise."""
        return list(self._decode(pcm))

    def align(self, pcm: bytes, words: Sequence[str]) -> list[SpokenWord]:
        """When each of the words is said; fewer than there are if they do not fit the sound.

        Args:
            pcm: Not empty.
            words: At least one; all of them such that it `knows`.
        """
        self._decoder.set_align_text(" ".join(words))
        try:
            return list(self._decode(pcm))
        finally:
            self._decoder.activate_search()

    def _decode(self, pcm: bytes) -> Iterator[SpokenWord]:
        # Its estimate of the noise would go over from one recording to the next.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        try:
            # As a whole: the cepstral mean is then that of this sound, not a running one.
            self._decoder.process_raw(pcm, full_utt=True)
        finally:
            self._decoder.end_utt()
        for part in self._decoder.seg() or ():
            if not part.word.startswith(_FILLERS):
                yield SpokenWord(
                    _PRONUNCIATION.sub("", part.word),
                    part.start_frame / _FRAMES_PER_S,
                    (part.end_frame + 1) / _FRAMES_PER_S,
                    min(max(part.prob, 0.0), 1.0),
                )
