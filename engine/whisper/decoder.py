"""Windows to segments. The model is shared; what belongs to one recording is the Decoder's."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from ctranslate2 import StorageView
from ctranslate2.models import WhisperGenerationResult
from faster_whisper import WhisperModel
from faster_whisper.audio import pad_or_trim
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens
from msgspec import Struct

from engine.types import Segment, SpokenWord, TranscribeOptions
from engine.whisper.phrases import Phrase, split_phrases
from engine.whisper.windows import SAMPLES_PER_FRAME, Window
from engine.whisper.words import align_words

_BEAM_SIZE = 5

# Whisper's own rule: a window like this is silence, and its text invented.
_SILENCE_PROB = 0.6
_SILENCE_LOGPROB = -1.0


class Encoded(Struct, frozen=True):
    """A batch of windows as the decoder sees them."""

    windows: Sequence[Window]
    audio: StorageView
    """[B, 1500, D] on the model's device."""


def encode(model: WhisperModel, windows: Sequence[Window]) -> Encoded:
    # The last frame is the extractor's own padding.
    features = [model.feature_extractor(window.samples)[..., :-1] for window in windows]
    return Encoded(windows, model.encode(np.stack([pad_or_trim(each) for each in features])))


def detect_language(model: WhisperModel, encoded: Encoded) -> tuple[str, float]:
    """ISO 639-1 code of what is spoken in the first window, and its probability."""
    if not model.model.is_multilingual:
        return "en", 1.0
    token, probability = model.model.detect_language(encoded.audio)[0][0]
    return token.strip("<|>"), float(probability)


class Decoder:
    """Writes down one recording.

    faster-whisper's batched pipeline is not used: it ignores the temperature, drops the text
    after a window's last timestamp, and keeps the time of the last word on itself.

    Args:
        model: May be shared.
        language: A code that the model knows.
        options: What is wanted.
    """

    def __init__(self, model: WhisperModel, language: str, options: TranscribeOptions) -> None:
        self._model = model
        self._options = options
        self._tokenizer = Tokenizer(
            model.hf_tokenizer, model.model.is_multilingual, options.task, language
        )
        self._prompt = model.get_prompt(self._tokenizer, self._previous_tokens())
        self._suppressed = get_suppressed_tokens(self._tokenizer, [-1])

    def decode(self, encoded: Encoded) -> list[Segment]:
        """The segments of all windows, in order. Takes as long as the model does."""
        results = self._generate(encoded)
        texts = [
            self._phrases(result, window)
            for result, window in zip(results, encoded.windows, strict=True)
        ]
        words = self._words(encoded, texts)
        return [
            segment
            for of_window in zip(encoded.windows, results, texts, words, strict=True)
            for segment in self._segments(*of_window)
        ]

    def _previous_tokens(self) -> list[int]:
        """Keywords, then as much of the prompt's end as there is room for."""
        room = self._model.max_length // 2 - 1
        keywords = self._text_tokens(", ".join(self._options.keywords))[:room]
        prompt = self._text_tokens(self._options.prompt or "")
        return keywords + prompt[max(len(keywords) + len(prompt) - room, 0) :]

    def _text_tokens(self, text: str) -> list[int]:
        """Text only: "<|translate|>" in a prompt must not steer the model."""
        tokens = self._tokenizer.encode(" " + text.strip()) if text.strip() else []
        return [token for token in tokens if token < self._tokenizer.eot]

    def _generate(self, encoded: Encoded) -> list[WhisperGenerationResult]:
        search: dict[str, int | float] = {"beam_size": _BEAM_SIZE}
        if self._options.temperature > 0:
            search = {
                "beam_size": 1,
                "num_hypotheses": _BEAM_SIZE,
                "sampling_topk": 0,
                "sampling_temperature": self._options.temperature,
            }
        results: list[WhisperGenerationResult] = self._model.model.generate(
            encoded.audio,
            [self._prompt] * len(encoded.windows),
            max_length=self._model.max_length,
            suppress_tokens=self._suppressed,
            return_scores=True,
            return_no_speech_prob=True,
            **search,
        )
        return results

    def _phrases(self, result: WhisperGenerationResult, window: Window) -> list[Phrase]:
        if result.no_speech_prob > _SILENCE_PROB and _avg_logprob(result) < _SILENCE_LOGPROB:
            return []
        phrases = split_phrases(
            result.sequences_ids[0], self._tokenizer.timestamp_begin, window.duration_s
        )
        return [each for each in phrases if self._tokenizer.decode(each.tokens).strip()]

    def _words(
        self, encoded: Encoded, texts: Sequence[Sequence[Phrase]]
    ) -> list[list[tuple[SpokenWord, ...]]]:
        if not self._options.with_words:
            return [[()] * len(phrases) for phrases in texts]
        text_tokens = [
            [[token for token in each.tokens if token < self._tokenizer.eot] for each in phrases]
            for phrases in texts
        ]
        return align_words(
            self._model, self._tokenizer, encoded.audio, encoded.windows, text_tokens
        )

    def _segments(
        self,
        window: Window,
        result: WhisperGenerationResult,
        phrases: Sequence[Phrase],
        words: Sequence[tuple[SpokenWord, ...]],
    ) -> Iterator[Segment]:
        text = self._tokenizer.decode(result.sequences_ids[0]).encode()
        compression_ratio = len(text) / len(zlib.compress(text))
        for phrase, spoken in zip(phrases, words, strict=True):
            start_s, end_s = window.interval(phrase.start_s, phrase.end_s)
            if spoken:
                start_s, end_s = spoken[0].start_s, spoken[-1].end_s
            yield Segment(
                start_s=start_s,
                end_s=end_s,
                text=self._tokenizer.decode(phrase.tokens),
                words=spoken,
                tokens=phrase.tokens,
                seek=window.spans[0].start // SAMPLES_PER_FRAME,
                temperature=self._options.temperature,
                avg_logprob=_avg_logprob(result),
                compression_ratio=compression_ratio,
                no_speech_prob=result.no_speech_prob,
            )


def _avg_logprob(result: WhisperGenerationResult) -> float:
    """Over the tokens and the end that follows them, as Whisper counts."""
    tokens = len(result.sequences_ids[0])
    return float(result.scores[0]) * tokens / (tokens + 1)
