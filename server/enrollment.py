"""From an uploaded recording to a stored voice: decode, check, get its text, keep, warm."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import AsyncGenerator
from functools import partial
from typing import BinaryIO

from msgspec import Struct
from msgspec.structs import replace

from engine.errors import EngineError, WorkerUnavailable
from engine.protocol import SpeechEngine
from engine.types import Samples, Segment, TranscribeOptions, TranscriptInfo
from server.audio.decode import DecodeError, DecodeLimits, decode_clip
from server.audio.shaper import Shaper
from server.catalog import Catalog
from server.errors import ApiError
from server.languages import language_code
from server.library import VoiceLibrary
from voices.errors import VoiceError
from voices.profile import CheckedPrompt, VoiceDraft, VoiceProfile
from voices.prompt_check import check_prompt

logger = logging.getLogger(__name__)


_LIMITS = DecodeLimits(max_duration_s=130.0)
"""A little more than the prompt check listens to: it says better what is wrong."""

_AGREEMENT_MIN = 0.5
"""Below this share of common letters, a given text is probably of another recording."""


class Heard(Struct, frozen=True):
    """What a recogniser makes of a prompt."""

    text: str
    language: str | None
    engine: str
    confidence: float | None
    """Mean probability of its words, 0 to 1."""
    is_reliable: bool


class Enroller:
    """Takes voices in. Event loop only.

    Args:
        library: Where they are kept.
        catalog: Of the engines that transcribe and clone.
    """

    def __init__(self, library: VoiceLibrary, catalog: Catalog) -> None:
        self._library = library
        self._catalog = catalog
        self._warming: set[asyncio.Task[None]] = set()

    async def enrol(
        self, file: BinaryIO, draft: VoiceDraft, *, may_transcribe: bool, request_id: str
    ) -> VoiceProfile:
        """Keep a voice; engines that clone compute its features afterwards.

        Args:
            file: The recording, open.
            draft: What was said of the voice. Without a text, the recording is transcribed.
            may_transcribe: Whether it may be.
            request_id: For the log.
        Raises:
            ApiError: 400, there is no text and there may be no transcript.
            DecodeError, VoiceError, EngineError: as they say.
        """
        if draft.prompt_text is None and not may_transcribe:
            message = "prompt_text is needed when it may not be transcribed"
            raise ApiError(400, message, param="prompt_text", code="missing_required_parameter")
        try:
            samples, sample_rate = await self._library.run(partial(decode_clip, file, _LIMITS))
        except DecodeError as exc:
            raise ApiError(400, str(exc), param="audio_sample", code="invalid_value") from exc
        prompt = await self._library.run(partial(check_prompt, samples, sample_rate))
        draft, prompt = await self._with_text(draft, prompt, request_id)
        voice = await self._library.run(partial(self._library.voices.add, draft, prompt))
        self.warm(voice, request_id)
        return voice

    def warm(self, voice: VoiceProfile, request_id: str) -> None:
        """Have cloning engines compute the features of a voice, while nobody waits."""
        for engine in self._catalog.engines.speech.values():
            if engine.info is not None and engine.info.clones_voices:
                task = asyncio.create_task(self._prepare(engine, voice, request_id))
                self._warming.add(task)
                task.add_done_callback(self._warming.discard)

    async def _prepare(self, engine: SpeechEngine, voice: VoiceProfile, request_id: str) -> None:
        try:
            await engine.prepare(await self._library.prompt_of(voice), request_id)
        except (EngineError, VoiceError) as exc:
            # The first request with this voice will try again, and fail where somebody sees it.
            logger.warning(
                "event=warm_failed engine=%s voice=%s request_id=%s reason=%s",
                engine.name,
                voice.id,
                request_id,
                exc,
            )
        else:
            logger.info("event=warmed engine=%s voice=%s", engine.name, voice.id)

    async def _with_text(
        self, draft: VoiceDraft, prompt: CheckedPrompt, request_id: str
    ) -> tuple[VoiceDraft, CheckedPrompt]:
        """The draft with its text, from whoever gave it; the report with what is wrong with it."""
        if draft.prompt_text is None:
            heard = await self._hear(prompt, draft.language, request_id)
            if not heard.text:
                message = "no words were understood in the recording: send prompt_text with it"
                raise ApiError(400, message, param="prompt_text", code="invalid_value")
            transcribed = replace(
                draft,
                prompt_text=heard.text,
                language=draft.language or heard.language,
                text_source="transcribed",
                text_engine=heard.engine,
                text_confidence=heard.confidence,
                text_is_reliable=heard.is_reliable,
            )
            return transcribed, prompt if heard.is_reliable else _warned(prompt, _UNRELIABLE)
        given = replace(draft, text_source="given", text_is_reliable=True)
        if await self._disagrees(draft.prompt_text, prompt, draft.language, request_id):
            return replace(given, text_is_reliable=False), _warned(prompt, _MISMATCH)
        return given, prompt

    async def _disagrees(
        self, text: str, prompt: CheckedPrompt, language: str | None, request_id: str
    ) -> bool:
        """Whether a recogniser that can be trusted hears something quite different."""
        try:
            heard = await self._hear(prompt, language, request_id, only_reliable=True)
        except EngineError:
            # Not in this language, or none that can be trusted: nobody can tell.
            return False
        return bool(heard.text) and _agreement(text, heard.text) < _AGREEMENT_MIN

    async def _hear(
        self,
        prompt: CheckedPrompt,
        language: str | None,
        request_id: str,
        *,
        only_reliable: bool = False,
    ) -> Heard:
        engine = self._catalog.preferred_transcriber()
        info = await engine.ready()
        if only_reliable and not info.is_accurate:
            raise WorkerUnavailable("no accurate recogniser", retry_after_s=1.0)
        shaper = Shaper(prompt.sample_rate, info.sample_rate)
        options = TranscribeOptions(
            language=language_code(language) if language else None, with_words=True
        )
        sound = _blocks(shaper.push(prompt.samples), shaper.flush())
        parts = [part async for part in engine.transcribe(sound, options, request_id)]
        segments = [part for part in parts if isinstance(part, Segment)]
        words = [word.probability for segment in segments for word in segment.words]
        return Heard(
            text="".join(segment.text for segment in segments).strip(),
            language=next((p.language for p in parts if isinstance(p, TranscriptInfo)), None),
            engine=info.name,
            confidence=round(sum(words) / len(words), 3) if words else None,
            is_reliable=info.is_accurate,
        )


_MISMATCH = (
    "The text does not seem to be what is said in the recording: words will be dropped or repeated."
)
_UNRELIABLE = (
    "The text was transcribed by a recogniser that gets many words wrong: read it and correct it."
)


def _warned(prompt: CheckedPrompt, warning: str) -> CheckedPrompt:
    report = replace(prompt.report, warnings=(*prompt.report.warnings, warning))
    return replace(prompt, report=report)


def _agreement(one: str, other: str) -> float:
    """Share of letters in common and in order, 0 to 1; punctuation, case and spaces aside."""
    left, right = ("".join(filter(str.isalnum, text.casefold())) for text in (one, other))
    return difflib.SequenceMatcher(None, left, right, autojunk=False).ratio()


async def _blocks(*parts: Samples) -> AsyncGenerator[Samples, None]:
    for part in parts:
        if len(part):
            yield part
