"""The faster-whisper plug-in: finds the speech of a recording and writes it down, in batches."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

from faster_whisper import WhisperModel

from engine.config import WhisperOptions
from engine.errors import InvalidRequest, LoadFailed
from engine.types import (
    Device,
    EngineInfo,
    Samples,
    Segment,
    TranscribeOptions,
    TranscriptInfo,
)
from engine.whisper import models
from engine.whisper.decoder import Decoder, Encoded, detect_language, encode
from engine.whisper.loading import open_model
from engine.whisper.speech import speech_finder
from engine.whisper.windows import SAMPLE_RATE, WINDOW_S, Window, listen

logger = logging.getLogger(__name__)

# A live transcript is made of this much audio first, then of ever more: a minute is read in five
# parts, so its first segments come in a fifth of the time, and an hour loses hardly any.
_LIVE_FIRST_S = 5.0
_LIVE_GROWTH = 1.5


class WhisperTranscriber:
    """Implements `engine.protocol.Transcriber`."""

    def __init__(self, options: WhisperOptions) -> None:
        self._options = options
        self._name = models.chosen(options)

    def load(self, device: Device) -> EngineInfo:
        """As the protocol says. Uses the network only if the options allow a download."""
        self._model = open_model(
            self._folder(), device, self._options.compute_type, self._options.cpu_threads
        )
        self._languages = _languages(self._model)
        honours = {"language", "prompt", "temperature", "keywords", "chunking_strategy", "word"}
        if self._model.model.is_multilingual:
            honours.add("translate")
        return EngineInfo(
            name="whisper",
            task="transcription",
            sample_rate=SAMPLE_RATE,
            languages=self._languages,
            honours=frozenset(honours),
            description=(
                f"Whisper {self._name} by faster-whisper, in "
                f"{self._model.model.compute_type} on {device}."
            ),
        )

    def transcribe(
        self, audio: Iterator[Samples], options: TranscribeOptions
    ) -> tuple[TranscriptInfo, Iterator[Segment]]:
        """As the protocol says. Reads on to the first speech: that tells the language.

        Raises:
            InvalidRequest: `language`, `model` (it cannot translate) or `chunking_strategy`.
        """
        self._check(options)
        batches = listen(
            audio,
            speech_finder(options.detection),
            self._read_s(options),
            self._options.batch_size,
        )
        first = next(batches, None)
        if first is None:
            return TranscriptInfo(options.language or "en", 0.0), iter(())
        encoded = encode(self._model, first)
        if options.language is None:
            info = TranscriptInfo(*detect_language(self._model, encoded))
        else:
            info = TranscriptInfo(options.language, 1.0)
        return info, self._segments(Decoder(self._model, info.language, options), encoded, batches)

    def _segments(
        self, decoder: Decoder, encoded: Encoded, batches: Iterator[list[Window]]
    ) -> Iterator[Segment]:
        while True:
            segments = decoder.decode(encoded)
            del encoded  # on a GPU it is large, and the client may be slow
            yield from segments
            if (batch := next(batches, None)) is None:
                return
            encoded = encode(self._model, batch)

    def _read_s(self, options: TranscribeOptions) -> Iterator[float]:
        """How much audio to hold before each batch, s."""
        most_s = self._options.batch_size * WINDOW_S
        seconds = _LIVE_FIRST_S if options.is_live else most_s
        while seconds < most_s:
            yield seconds
            seconds *= _LIVE_GROWTH
        yield from repeat(most_s)

    def _check(self, options: TranscribeOptions) -> None:
        if options.language is not None and options.language not in self._languages:
            raise InvalidRequest(
                f"this model does not know the language {options.language!r}", param="language"
            )
        if options.task == "translate" and not self._model.model.is_multilingual:
            raise InvalidRequest("this model knows English only", param="model")

    def _folder(self) -> Path:
        if (folder := models.find_model(self._name)) is not None:
            return folder
        if (problem := models.missing(self._options)) is not None:
            raise LoadFailed(problem)
        logger.info("event=model_download model=%s", self._name)
        return models.pull(self._name, _ignore_progress)


def _languages(model: WhisperModel) -> tuple[str, ...]:
    """The codes that it was trained on, by its tokens: "yue" came with large-v3."""
    if not model.model.is_multilingual:
        return ("en",)
    return tuple(
        code
        for code in model.supported_languages
        if model.hf_tokenizer.token_to_id(f"<|{code}|>") is not None
    )


def _ignore_progress(done: int, total: int) -> None:
    """Nobody watches a worker's start."""
