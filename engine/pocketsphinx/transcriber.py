"""The pocketsphinx plug-in: hears utterance by utterance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from engine.config import PocketsphinxOptions
from engine.errors import InvalidRequest, LoadFailed
from engine.pocketsphinx.alignment import known_words, timed
from engine.pocketsphinx.decoder import WordDecoder
from engine.pocketsphinx.utterances import SAMPLE_RATE, Utterance, check, to_pcm, utterances
from engine.types import (
    Device,
    EngineInfo,
    Samples,
    Segment,
    SpokenWord,
    TranscribeOptions,
    TranscriptInfo,
)

_DESCRIPTION = (
    "pocketsphinx with the English model that comes with it. It needs no download, but its "
    "accuracy is low: of most voices it gets every second or third word wrong. For a transcript "
    "to rely on, fetch a Whisper model: rhapsode models pull base"
)

# Where the library is sure that a word is wrong, its probability is 0, which has no logarithm.
_LEAST_PROBABILITY = 1e-4


class PocketsphinxTranscriber:
    """Implements `engine.protocol.Transcriber` and `engine.protocol.Aligner`."""

    def __init__(self, options: PocketsphinxOptions) -> None:
        self._options = options

    def load(self, device: Device) -> EngineInfo:  # noqa: ARG002  it computes on the CPU
        try:
            self._decoder = WordDecoder()
        except RuntimeError as exc:
            raise LoadFailed(
                "pocketsphinx cannot read its model: pip install --force-reinstall pocketsphinx"
            ) from exc
        return EngineInfo(
            name="pocketsphinx",
            task="transcription",
            sample_rate=SAMPLE_RATE,
            languages=("en",),
            is_embedded=True,
            is_accurate=False,
            honours=frozenset({"chunking_strategy", "word"}),
            description=_DESCRIPTION,
        )

    def transcribe(
        self, audio: Iterator[Samples], options: TranscribeOptions
    ) -> tuple[TranscriptInfo, Iterator[Segment]]:
        """As the protocol says. It takes whatever is spoken for English.

        `Segment.avg_logprob` is the mean natural logarithm of the words' probabilities.

        Raises:
            InvalidRequest: `language`, `model` (it cannot translate) or `chunking_strategy`.
        """
        _check(options)
        cut = utterances(audio, options.detection, self._options.max_utterance_s)
        return TranscriptInfo("en", 1.0), self._segments(cut, options.with_words)

    def align(self, audio: Samples, text: str) -> tuple[SpokenWord, ...]:
        """As the protocol says. A word in the recording that is not in the text, such as a number
        left out, makes the times around it less sure.
        """
        words = known_words(text, self._decoder.knows)
        if not words:
            return ()
        entries = [entry for word in words for entry in word.entries]
        found = self._decoder.align(to_pcm(audio), entries) if len(audio) else []
        if len(found) != len(entries):
            raise InvalidRequest("the text does not fit the recording", param=None)
        return timed(words, found)

    def _segments(self, cut: Iterator[Utterance], with_words: bool) -> Iterator[Segment]:
        is_first = True
        for utterance in cut:
            if heard := self._decoder.hear(utterance.pcm):
                yield _segment(_placed(heard, utterance.start_s, is_first), utterance, with_words)
                is_first = False


def _check(options: TranscribeOptions) -> None:
    if options.language is not None and options.language.lower().split("-")[0] != "en":
        raise InvalidRequest(
            f"pocketsphinx knows English only, not {options.language!r}", param="language"
        )
    if options.task == "translate":
        raise InvalidRequest("pocketsphinx cannot translate", param="model")
    if options.detection is not None:
        check(options.detection)


def _placed(words: Sequence[SpokenWord], start_s: float, is_first: bool) -> tuple[SpokenWord, ...]:
    """The words where they stand in the transcript, each but its very first after a space."""
    return tuple(
        SpokenWord(
            word.text if is_first and nth == 0 else f" {word.text}",
            start_s + word.start_s,
            start_s + word.end_s,
            word.probability,
        )
        for nth, word in enumerate(words)
    )


def _segment(words: tuple[SpokenWord, ...], utterance: Utterance, with_words: bool) -> Segment:
    logprobs = [math.log(max(word.probability, _LEAST_PROBABILITY)) for word in words]
    return Segment(
        words[0].start_s,
        words[-1].end_s,
        "".join(word.text for word in words),
        words=words if with_words else (),
        seek=round(utterance.start_s * 100),
        avg_logprob=sum(logprobs) / len(logprobs),
    )
