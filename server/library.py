"""The voices that people gave us, as requests see them. Event loop only; files in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from engine.types import EngineInfo, PromptRef, VoicePrompt, VoiceStyle
from server.catalog import Catalog
from voices.builtin import builtin_samples, builtin_voices
from voices.consent import ConsentStore
from voices.errors import VoiceNotFound
from voices.profile import VoiceProfile
from voices.prosody import Prosody
from voices.store import VoiceStore

T = TypeVar("T")


class SpeakingVoice(Struct, frozen=True, kw_only=True):
    """What a voice comes down to for one engine."""

    engine_voice: str | None = None
    """In the engine's own grammar."""
    profile: VoiceProfile | None = None
    """Of a stored voice."""
    language: str | None = None
    """BCP 47, of the recording."""
    prompt: PromptRef | None = None
    style: VoiceStyle | None = None
    how: Literal["cloned", "followed", "ignored"] | None = None
    """Done to somebody's voice; "followed": in pitch and pace. None: it is an engine's own."""


class VoiceLibrary:
    """Stored voices and consents.

    Args:
        voices: Where voices are kept.
        consents: Where consents are kept.
        catalog: Of the engines and their own voices.
        threads: Where files are read and written.
    """

    def __init__(
        self, voices: VoiceStore, consents: ConsentStore, catalog: Catalog, threads: Executor
    ) -> None:
        self.voices = voices
        self.consents = consents
        self._catalog = catalog
        self._threads = threads

    async def run(self, work: Callable[[], T]) -> T:
        """Do what blocks, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def resolve(
        self, name: str, owner: str | None, engine: str, info: EngineInfo
    ) -> SpeakingVoice:
        """A stored voice by id or name; else what the settings' table makes of the name, which may
        be a stored voice again; else one that ships with us, for an engine that clones; else a
        voice of the engine's.

        Raises:
            ApiError: 400, the name is empty.
        """
        if not name.strip():
            raise self._catalog.unknown_voice(engine, name)
        meant = self._catalog.engine_voice(engine, name)
        keys = tuple(dict.fromkeys((name, meant)))
        if (profile := await self.run(partial(self._find, keys, owner))) is not None:
            return _stored(profile, info)
        if info.clones_voices and (builtin := builtin_voices().get(meant)) is not None:
            return _stored(builtin, info)
        return SpeakingVoice(engine_voice=meant)

    async def prompt_of(self, voice: VoiceProfile) -> VoicePrompt:
        """The sound and the text of a stored voice.

        Raises:
            VoiceError: it is gone, or damaged.
        """
        is_builtin = builtin_voices().get(voice.name) == voice
        read = builtin_samples if is_builtin else self.voices.samples
        samples, sample_rate = await self.run(partial(read, voice))
        return VoicePrompt(
            digest=voice.sample_digest,
            samples=samples.tobytes(),
            sample_rate=sample_rate,
            text=voice.prompt_text or "",
            language=voice.language,
        )

    def _find(self, keys: Sequence[str], owner: str | None) -> VoiceProfile | None:
        for key in keys:
            with suppress(VoiceNotFound):
                return self.voices.get(key, owner)
        return None


def recorded_voice(
    prompt: PromptRef, prosody: Prosody, language: str | None, info: EngineInfo
) -> SpeakingVoice:
    """A recorded voice as an engine speaks with it: cloned, or else followed as far as it can."""
    if info.clones_voices:
        return SpeakingVoice(language=language, prompt=prompt, how="cloned")
    if "style" not in info.honours:
        return SpeakingVoice(language=language, how="ignored")
    style = VoiceStyle(
        pitch_hz=prosody.pitch_hz,
        pitch_span_semitones=prosody.pitch_span_semitones,
        syllables_per_s=prosody.syllables_per_s,
    )
    return SpeakingVoice(language=language, style=style, how="followed")


def _stored(profile: VoiceProfile, info: EngineInfo) -> SpeakingVoice:
    prompt = PromptRef(profile.sample_digest, profile.prompt_text or "")
    voice = recorded_voice(prompt, profile.report.prosody, profile.language, info)
    return replace(voice, profile=profile)


def voice_headers(voice: SpeakingVoice) -> dict[str, str]:
    """How somebody's voice is spoken with; nothing of an engine's own."""
    return {"x-rhapsode-voice": voice.how} if voice.how else {}
