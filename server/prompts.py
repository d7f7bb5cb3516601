"""Is a recording a prompt to clone a voice from, and what is said in it. Event loop only."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import BinaryIO

from msgspec import Struct
from msgspec.structs import replace

from engine.errors import WorkerUnavailable
from engine.types import Samples, Segment, TranscribeOptions, TranscriptInfo
from server.audio.decode import DecodeError, DecodeLimits
from server.audio.shaper import Shaper
from server.catalog import Catalog
from server.context import RequestContext
from server.decoders import Decoders
from server.errors import ApiError
from server.languages import language_code
from server.library import VoiceLibrary
from server.turns import Turns
from voices.errors import PromptRefused
from voices.profile import CheckedPrompt
from voices.prompt_check import check_prompt

_LIMITS = DecodeLimits(max_duration_s=130.0)
"""A little more than the prompt check listens to: it says better what is wrong."""


class Heard(Struct, frozen=True):
    """What a recogniser makes of a prompt."""

    text: str
    language: str | None
    engine: str
    confidence: float | None
    """Mean probability of its words, 0 to 1."""
    is_reliable: bool


class PromptReader:
    """For voices that are kept, and for those that come with one request.

    Args:
        library: Has the threads for what blocks.
        catalog: Of the engines that transcribe.
        decoders: Where recordings are decoded.
        turns: Where they wait for the recogniser, among all that is to be transcribed.
    """

    def __init__(
        self, library: VoiceLibrary, catalog: Catalog, decoders: Decoders, turns: Turns
    ) -> None:
        self._library = library
        self._catalog = catalog
        self._decoders = decoders
        self._turns = turns

    async def read(self, recording: BinaryIO, param: str) -> CheckedPrompt:
        """Decode a recording and check it.

        Args:
            recording: Open; it is read from its start.
            param: The wire's field that it came in.
        Raises:
            ApiError: 400, not audio, or nothing to clone a voice from.
            Overloaded, WorkerUnavailable: see `Decoders.decode`.
        """
        try:
            samples, sample_rate = await self._decoders.decode_clip(recording, _LIMITS)
            return await self._library.run(partial(check_prompt, samples, sample_rate))
        except (DecodeError, PromptRefused) as exc:
            raise ApiError(400, str(exc), param=param, code="invalid_value") from exc

    async def transcribe(
        self, prompt: CheckedPrompt, language: str | None, context: RequestContext, param: str
    ) -> Heard:
        """What is said in a prompt whose text nobody gave.

        Args:
            prompt: As `read` gave it.
            language: BCP 47, of the prompt; None lets the recogniser tell.
            context: Of the request that it came with.
            param: The wire's field that the text should have come in.
        Raises:
            ApiError: 400, no word was understood; or 429, see `Turns.taken`.
            EngineError: it could not be transcribed; NoTurn, likewise.
        """
        heard = await self.hear(prompt, language, context)
        if not heard.text:
            message = f"no words were understood in the recording: send {param} with it"
            raise ApiError(400, message, param=param, code="invalid_value")
        return heard

    async def hear(
        self,
        prompt: CheckedPrompt,
        language: str | None,
        context: RequestContext,
        *,
        only_reliable: bool = False,
    ) -> Heard:
        """As `transcribe`; the text may be empty.

        Raises:
            ApiError: 429, see `Turns.taken`.
            EngineError: it could not be transcribed, or by none that can be trusted if only such
                a recogniser will do.
        """
        engine = self._catalog.preferred_transcriber()
        info = await engine.ready()
        if only_reliable and not info.is_accurate:
            raise WorkerUnavailable("no accurate recogniser", retry_after_s=1.0)
        shaper = Shaper(prompt.sample_rate, info.sample_rate)
        options = TranscribeOptions(
            language=language_code(language) if language else None, with_words=True
        )
        sound = _blocks(shaper.push(prompt.samples), shaper.flush())
        spoken = engine.transcribe(sound, options, context.request_id)
        # With marks of its own: those of a speech tell of the turn that it speaks in.
        turn = self._turns.taken(engine.name, replace(context, marks={}), spoken)
        parts = [part async for part in turn]
        segments = [part for part in parts if isinstance(part, Segment)]
        words = [word.probability for segment in segments for word in segment.words]
        return Heard(
            text="".join(segment.text for segment in segments).strip(),
            language=next((p.language for p in parts if isinstance(p, TranscriptInfo)), None),
            engine=info.name,
            confidence=round(sum(words) / len(words), 3) if words else None,
            is_reliable=info.is_accurate,
        )


async def _blocks(*parts: Samples) -> AsyncGenerator[Samples, None]:
    for part in parts:
        if len(part):
            yield part
