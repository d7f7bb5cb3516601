"""The pocketsphinx library: a short stretch of English to words with times."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pocketsphinx import Decoder

from engine.types import SpokenWord

_FRAMES_PER_S = 100

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
        self._decoder = Decoder(loglevel="FATAL")

    def knows(self, word: str) -> bool:
        """Whether the dictionary has the word, in lower case."""
        return self._decoder.lookup_word(word) is not None

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
