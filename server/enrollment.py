"""From a recording to a voice: decode, check, get its text; then keep and warm it, or lend it."""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import logging
from functools import partial
from io import BytesIO
from typing import BinaryIO

from msgspec.structs import replace

from engine.errors import EngineError, Overloaded
from engine.protocol import SpeechEngine
from server.borrowed import BorrowedVoice, RecentVoices, prompt_digest
from server.catalog import Catalog
from server.context import RequestContext
from server.decoders import Decoders
from server.errors import ApiError
from server.library import VoiceLibrary
from server.prompts import PromptReader
from server.turns import Turns
from voices.errors import VoiceError
from voices.names import check_text
from voices.profile import CheckedPrompt, VoiceDraft, VoiceProfile

logger = logging.getLogger(__name__)

_RECENT_BYTES = 64 << 20
"""Of samples: some 70 prompts of 10 s."""

_AGREEMENT_MIN = 0.5
"""Below this share of common letters, a given text is probably of another recording."""


class Enroller:
    """Takes voices in, to be kept or for one request. Event loop only.

    Args:
        library: Where they are kept.
        catalog: Of the engines that transcribe and clone.
        decoders: Where recordings are decoded.
        turns: Where they wait for the recogniser, if they are to be transcribed.
    """

    def __init__(
        self, library: VoiceLibrary, catalog: Catalog, decoders: Decoders, turns: Turns
    ) -> None:
        self._library = library
        self._catalog = catalog
        self._reader = PromptReader(library, catalog, decoders, turns)
        self._recent = RecentVoices(_RECENT_BYTES)
        self._warming: set[asyncio.Task[None]] = set()

    async def enrol(
        self, file: BinaryIO, draft: VoiceDraft, *, may_transcribe: bool, context: RequestContext
    ) -> VoiceProfile:
        """Keep a voice; engines that clone compute its features afterwards.

        Args:
            file: The recording, open.
            draft: What was said of the voice. Without a text, the recording is transcribed.
            may_transcribe: Whether it may be.
            context: Of the request.
        Raises:
            ApiError: 400, not a prompt; or there is no text and there may be no transcript. 429,
                the key has too many requests in flight.
            NoTurn: the recogniser is full.
            VoiceError, EngineError: as they say.
        """
        if draft.prompt_text is None and not may_transcribe:
            message = "prompt_text is needed when it may not be transcribed"
            raise ApiError(400, message, param="prompt_text", code="missing_required_parameter")
        prompt = await self._reader.read(file, "audio_sample")
        draft, prompt = await self._with_text(draft, prompt, context)
        voice = await self._library.run(partial(self._library.voices.add, draft, prompt))
        self.warm(voice, context.request_id)
        return voice

    async def borrow(
        self, recording: bytes, text: str | None, *, needs_text: bool, context: RequestContext
    ) -> BorrowedVoice:
        """A voice for one request: nothing of it is stored. The last ones are remembered.

        Args:
            recording: A file of sound.
            text: What is said in it; taken at its word.
            needs_text: Whether to transcribe it if there is no text.
            context: Of the request.
        Raises:
            ApiError: 400, not a prompt, or without words. 429, as of `enrol`.
            NoTurn: the recogniser is full.
            BadText, EngineError: as they say.
        """
        if text is not None:
            check_text(text, "ref_text")
        key = await self._library.run(lambda: hashlib.sha256(recording).digest())
        voice = self._recent.get(key) or await self._read(recording)
        is_heard = text is None and needs_text
        if is_heard and voice.text is None:
            heard = await self._reader.transcribe(voice.prompt, None, context, "ref_text")
            voice = replace(voice, text=heard.text, language=heard.language)
        self._recent.put(key, voice)
        return voice if is_heard else replace(voice, text=text, language=None)

    async def _read(self, recording: bytes) -> BorrowedVoice:
        prompt = await self._reader.read(BytesIO(recording), "ref_audio")
        return BorrowedVoice(prompt, await self._library.run(partial(prompt_digest, prompt)))

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
            logger.info(
                "event=warmed engine=%s voice=%s request_id=%s", engine.name, voice.id, request_id
            )

    async def _with_text(
        self, draft: VoiceDraft, prompt: CheckedPrompt, context: RequestContext
    ) -> tuple[VoiceDraft, CheckedPrompt]:
        """The draft with its text, from whoever gave it; the report with what is wrong with it."""
        if draft.prompt_text is None:
            heard = await self._reader.transcribe(prompt, draft.language, context, "prompt_text")
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
        if await self._disagrees(draft.prompt_text, prompt, draft.language, context):
            return replace(given, text_is_reliable=False), _warned(prompt, _MISMATCH)
        return given, prompt

    async def _disagrees(
        self, text: str, prompt: CheckedPrompt, language: str | None, context: RequestContext
    ) -> bool:
        """Whether a recogniser that can be trusted hears something quite different."""
        try:
            heard = await self._reader.hear(prompt, language, context, only_reliable=True)
        except Overloaded:
            # It could be told, but not now.
            raise
        except EngineError:
            # Not in this language, or none that can be trusted: nobody can tell.
            return False
        return bool(heard.text) and _agreement(text, heard.text) < _AGREEMENT_MIN


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
