"""The voices that people gave us, as requests see them. Event loop only; files in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import TypeVar

from msgspec import Struct

from engine.types import EngineInfo, PromptRef, VoicePrompt, VoiceStyle
from server.catalog import Catalog
from voices.builtin import builtin_samples, builtin_voices
from voices.consent import ConsentStore
from voices.errors import VoiceNotFound
from voices.profile import VoiceProfile
from voices.store import VoiceStore

T = TypeVar("T")


class SpeakingVoice(Struct, frozen=True, kw_only=True):
    """What a voice's name comes down to for one engine."""

    engine_voice: str | None = None
    """In the engine's own grammar."""
    profile: VoiceProfile | None = None
    """Somebody's voice: cloned, or followed as far as the engine can."""
    prompt: PromptRef | None = None
    style: VoiceStyle | None = None


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
            return _speaking(profile, info)
        if info.clones_voices and (builtin := builtin_voices().get(meant)) is not None:
            return _speaking(builtin, info)
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


def _speaking(profile: VoiceProfile, info: EngineInfo) -> SpeakingVoice:
    if info.clones_voices:
        prompt = PromptRef(profile.sample_digest, profile.prompt_text or "")
        return SpeakingVoice(profile=profile, prompt=prompt)
    prosody = profile.report.prosody
    style = VoiceStyle(
        pitch_hz=prosody.pitch_hz,
        pitch_span_semitones=prosody.pitch_span_semitones,
        syllables_per_s=prosody.syllables_per_s,
    )
    return SpeakingVoice(profile=profile, style=style if "style" in info.honours else None)


def voice_headers(voice: SpeakingVoice, info: EngineInfo) -> dict[str, str]:
    """How somebody's voice is spoken with: "cloned", "followed" in pitch and pace, or "ignored"."""
    if voice.profile is None:
        return {}
    how = "followed" if voice.style else "ignored"
    return {"x-rhapsode-voice": "cloned" if info.clones_voices else how}
