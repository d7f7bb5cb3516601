"""The espeak-ng plug-in: one step speaks one segment of one job.

The voice is a separate GPL-3.0-or-later package, in this worker's process only; see `library`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import cast

import msgspec

from engine.config import EspeakOptions
from engine.errors import InvalidRequest
from engine.espeak.job import EspeakJob, Segment
from engine.espeak.library import SAMPLE_RATE, EspeakLibrary, Utterance
from engine.espeak.pace import speed_range, words_per_minute
from engine.espeak.stream import SegmentStream
from engine.espeak.style import StyleFit, fit_style
from engine.espeak.voices import VoiceCatalog
from engine.protocol import Emit
from engine.text import clean, ends_clause, script_runs, split
from engine.types import Device, EngineInfo, Job, PromptFeatures, SynthesisRequest

# Keeps a step under 60 ms: 10 s of prose, 25 s of ideographs.
_SEGMENT_WEIGHT = 160

_SEED_BITS = 0x7FFFFFFF

_DESCRIPTION = (
    "espeak-ng formant synthesis: quick, and plainly robotic. It needs no download and no "
    "accelerator. In Japanese it reads kana only, and names kanji instead of reading them."
)


class EspeakSynthesizer:
    """Implements `engine.protocol.Synthesizer`."""

    def __init__(self, options: EspeakOptions) -> None:
        self._options = options

    def load(self, device: Device) -> EngineInfo:  # noqa: ARG002  it computes on the CPU
        self._library = EspeakLibrary(self._options.chunk_ms)
        self._catalog = VoiceCatalog(self._library.voices(), self._library.variants())
        self._info = EngineInfo(
            name="espeak-ng",
            task="speech",
            sample_rate=SAMPLE_RATE,
            languages=tuple(sorted({voice.language for voice in self._catalog.infos})),
            voices=self._catalog.infos,
            is_embedded=True,
            speed_range=speed_range(self._options.words_per_minute),
            honours=frozenset({"seed", "style"}),
            description=_DESCRIPTION,
        )
        return self._info

    def start(
        self,
        job_id: int,
        request: SynthesisRequest,
        features: PromptFeatures | None = None,  # noqa: ARG002  it cannot clone
    ) -> EspeakJob:
        """As the protocol says. That a text has no words may show only as it is spoken: then the
        last step raises InvalidRequest for `input`, and no audio was given.

        Raises:
            UnknownVoice: bad `voice`.
            InvalidRequest: `language`, `speed` or `input` cannot be spoken.
        """
        slowest, fastest = self._info.speed_range
        if not slowest <= request.speed <= fastest:
            raise InvalidRequest(
                f"espeak-ng speaks at speeds from {slowest:.2f} to {fastest:.2f}", param="speed"
            )
        fit = fit_style(request.style) if request.style else StyleFit()
        segments = self._segments(request, fit)
        if not segments:
            raise _nothing_to_speak()
        normal = fit.words_per_minute or self._options.words_per_minute
        pace = words_per_minute(normal, request.speed)
        return EspeakJob(job_id, segments, pace, fit, (request.seed or 0) & _SEED_BITS)

    def step(
        self,
        stage: str,  # noqa: ARG002  there is but one
        jobs: Sequence[Job],
        emit: Emit,
    ) -> None:
        for job in jobs:
            self._speak_next(cast("EspeakJob", job), emit)

    def max_batch(self, stage: str) -> int:  # noqa: ARG002  there is but one
        return 1

    def finish(self, job: Job) -> None:
        """A job holds nothing between its steps."""

    def _segments(self, request: SynthesisRequest, fit: StyleFit) -> list[Segment]:
        choice = self._catalog.parse(request.voice)
        if choice.variant is None:
            choice = msgspec.structs.replace(choice, variant=fit.variant)
        if request.language is not None:
            self._catalog.check_language(request.language)
        runs = script_runs(clean(request.text).strip())
        pieces = [
            (piece, voice)
            for voice, group in groupby(
                runs, lambda run: self._catalog.voice_for(run.script, request.language, choice)
            )
            for piece in split("".join(run.text for run in group), _SEGMENT_WEIGHT)
            if piece.strip()
        ]
        # The clip's own end needs no silence.
        return [
            Segment(piece, voice, ends_clause(piece) and nth < len(pieces))
            for nth, (piece, voice) in enumerate(pieces, 1)
        ]

    def _speak_next(self, job: EspeakJob, emit: Emit) -> None:
        segment = job.segments.popleft()
        stream = SegmentStream(job, segment.text, emit)
        utterance = Utterance(
            text=segment.text,
            voice=segment.voice,
            words_per_minute=job.pace,
            seed=job.seed,
            pitch=job.fit.pitch,
            pitch_range=job.fit.pitch_range,
            ends_with_pause=segment.ends_with_pause,
        )
        self._library.speak(utterance, stream.deliver)
        if job.is_cancelled:
            job.stage = None
            return
        stream.finish()
        if not job.segments:
            if not job.has_spoken:
                raise _nothing_to_speak()
            job.stage = None


def _nothing_to_speak() -> InvalidRequest:
    return InvalidRequest("the text has no word that can be spoken", param="input")
