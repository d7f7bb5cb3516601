"""The voice grammar `<base>[+<variant>]`, and the voice of each run of a text.

`base` is an espeak identifier ("gmw/en-US") or a language code ("en-us"); without it ("+f2") the
language decides. The variant is kept over all runs of a text, whatever their language.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from engine.errors import InvalidRequest, UnknownVoice
from engine.espeak.languages import (
    LanguageIndex,
    language_of_script,
    language_tag,
    matches,
    reads,
)
from engine.espeak.native import NativeVoice
from engine.types import VoiceInfo

# Listed by the library, but their dictionaries are not in the package.
_WITHOUT_DICTIONARY = frozenset({"gmq/fo", "trk/kaa", "art/xex"})


class VoiceChoice(Struct, frozen=True):
    """A parsed voice."""

    base: str | None
    """Identifier; None leaves it to the language."""
    variant: str | None


class VoiceCatalog:
    """The voices of the installed library."""

    def __init__(self, voices: Iterable[NativeVoice], variants: Iterable[str]) -> None:
        speaking = [voice for voice in voices if voice.identifier not in _WITHOUT_DICTIONARY]
        self.infos = tuple(
            VoiceInfo(voice.identifier, voice.name, language_tag(voice.identifier))
            for voice in speaking
        )
        self._index = LanguageIndex(speaking)
        self._bases = {voice.identifier.lower(): voice.identifier for voice in speaking}
        self._variants = {name.lower(): name for name in variants}

    def parse(self, voice: str | None) -> VoiceChoice:
        """Raises: UnknownVoice: no such base, or no such variant."""
        base_name, plus, variant_name = (voice or "").partition("+")
        base = self._bases.get(base_name.lower()) or self._index.exact(base_name)
        variant = self._variants.get(variant_name.lower())
        if (base_name and base is None) or (plus and variant is None):
            raise UnknownVoice(f"espeak-ng has no voice {voice!r}")
        return VoiceChoice(base, variant)

    def check_language(self, language: str) -> None:
        """Raises: InvalidRequest: no voice speaks it."""
        if self._index.nearest(language) is None:
            raise InvalidRequest(f"espeak-ng does not speak {language!r}", param="language")

    def voice_for(self, script: str | None, language: str | None, choice: VoiceChoice) -> str:
        """The voice for a run, as the library takes it.

        The request's language if it is written so, else the chosen base's, else the script's own.
        A base that speaks the request's language ("en-GB" for "en") comes first.

        Args:
            script: Of the run.
            language: Of the request; one that `check_language` let pass.
            choice: From `parse`.
        """
        named = self._index.nearest(language) if language else None
        is_base_meant = choice.base and language and matches(language_tag(choice.base), language)
        candidates = (choice.base, named) if is_base_meant else (named, choice.base)
        base = next(
            (found for found in candidates if found and reads(language_tag(found), script)),
            self._index.exact(language_of_script(script)),
        )
        return f"{base}+{choice.variant}" if choice.variant else f"{base}"
