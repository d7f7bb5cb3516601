"""The voices that people gave us: whose they are, what they are called, how many there may be.

Where they lie is the business of a shelf. All methods block: the server calls them in threads.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import msgspec
from msgspec.structs import asdict, replace

from voices import archive, flac
from voices.errors import CorruptVoice, NameTaken, NotOwner, VoiceNotFound
from voices.limits import StoreLimits, check_room, check_size
from voices.names import (
    NAME_CHARS,
    check_language,
    check_name,
    check_text,
    name_key,
    new_voice_id,
)
from voices.profile import (
    CheckedPrompt,
    Imported,
    Samples,
    VoiceDraft,
    VoiceEdit,
    VoiceProfile,
)
from voices.shelf import Fault, RecordKind, Shelf

VOICES: Final = RecordKind("voices", "voice", archive.DOCUMENT, archive.RECORDING)

_GIVEN: Final = {
    "text_source": "given",
    "text_engine": None,
    "text_confidence": None,
    "text_is_reliable": True,
}
"""Where a text comes from that a person edits."""

_Draft = TypeVar("_Draft", bound=VoiceDraft)


class VoiceStore:
    """Voices by id or name.

    An `owner` of None is an asker without a key: it may see and change all. Others see their own
    voices and those without an owner, and change only their own.

    Args:
        shelf: Where they lie.
        limits: How much may.
    """

    def __init__(self, shelf: Shelf[VoiceProfile], limits: StoreLimits) -> None:
        self._shelf = shelf
        self._limits = limits

    def add(self, draft: VoiceDraft, prompt: CheckedPrompt) -> VoiceProfile:
        """Keep a voice.

        Raises:
            BadRequest: the name, the language or a text cannot be.
            NameTaken: the owner has a voice that is called so, or hardly different.
            TooLarge, TooMany, StoreFull: beyond a limit.
        """
        draft = _checked(draft)
        pcm = flac.to_pcm16(prompt.samples)
        recording = flac.encode(pcm, prompt.sample_rate)
        check_size(recording, self._limits, "audio_sample")
        voice = VoiceProfile(
            **asdict(draft),
            id=new_voice_id(),
            created_at=int(time.time()),
            sample_digest=flac.digest(pcm, prompt.sample_rate),
            sample_rate=prompt.sample_rate,
            duration_s=len(pcm) / prompt.sample_rate,
            size_bytes=len(recording),
            report=prompt.report,
        )

        def admit(voices: Sequence[VoiceProfile]) -> VoiceProfile:
            _check_free(voices, voice)
            check_room(voices, voice, self._limits)
            return voice

        return self._shelf.put(admit, recording)

    def get(self, key: str, owner: str | None) -> VoiceProfile:
        """The voice with this id, else with this name; of several, the owner's own.

        Raises:
            VoiceNotFound: none that the owner may see.
        """
        try:
            return _find(self._shelf.records(), key, owner)
        except VoiceNotFound:
            return _find(self._shelf.records(is_fresh=True), key, owner)

    def voices(self, owner: str | None) -> list[VoiceProfile]:
        """All that the owner may see, oldest first."""
        voices = self._shelf.records(is_fresh=True)
        visible = [voice for voice in voices if _is_visible(voice, owner)]
        # Read one by one while others write, a name may be seen where it was and where it went.
        by_name = {(voice.owner, name_key(voice.name)): voice for voice in visible}
        return [voice for voice in visible if by_name[voice.owner, name_key(voice.name)] is voice]

    def update(self, key: str, owner: str | None, edit: VoiceEdit) -> VoiceProfile:
        """Change what is said of a voice.

        Raises:
            VoiceNotFound, NotOwner: not there, or not the owner's.
            BadRequest, NameTaken: as for `add`.
        """
        changes = {field: value for field, value in asdict(edit).items() if value is not None}
        if edit.prompt_text is not None:
            changes |= _GIVEN

        def changed(voices: Sequence[VoiceProfile]) -> VoiceProfile:
            voice = _checked(replace(_find_own(voices, key, owner), **changes))
            _check_free(voices, voice)
            return voice

        return self._shelf.put(changed, None)

    def remove(self, key: str, owner: str | None) -> VoiceProfile:
        """Delete a voice. Who holds its samples already may go on using them.

        Raises:
            VoiceNotFound, NotOwner: not there, or not the owner's.
        """
        return self._shelf.remove(lambda voices: _find_own(voices, key, owner))

    def audio(self, voice: VoiceProfile) -> bytes:
        """The recording as FLAC.

        Raises:
            VoiceNotFound: it has been removed meanwhile.
        """
        recording = self._shelf.recording(voice)
        if recording is None:
            raise _not_found(voice.id)
        return recording

    def samples(self, voice: VoiceProfile) -> tuple[Samples, int]:
        """The recording as float32 mono [T], and its rate.

        Raises:
            VoiceNotFound: it has been removed meanwhile.
            CorruptVoice: it is not what was stored; it is not listed any more.
        """
        try:
            pcm, sample_rate = flac.decode(self.audio(voice))
            if flac.digest(pcm, sample_rate) != voice.sample_digest:
                raise CorruptVoice("the audio is not what was stored")
        except CorruptVoice as exc:
            self._shelf.set_aside(voice.id, str(exc))
            raise
        return flac.to_samples(pcm), sample_rate

    def export(self, voice: VoiceProfile, features: Mapping[str, bytes]) -> bytes:
        """The voice as one file, a zip.

        Args:
            voice: To export.
            features: What engines have computed of it, by plain file name.
        Raises:
            VoiceNotFound: it has been removed meanwhile.
        """
        return archive.pack(voice, self.audio(voice), features)

    def import_(self, data: bytes, owner: str | None, name: str | None = None) -> Imported:
        """Keep an exported voice, under a new id.

        Args:
            data: What `export` gave, here or elsewhere.
            owner: Whose it will be.
            name: Another than its own.
        Raises:
            BadArchive: not an exported voice, or a damaged one.
            VoiceError: as for `add`.
        """
        unpacked = archive.unpack(data, self._limits.archive_bytes)
        draft = msgspec.convert(unpacked.profile, VoiceDraft, from_attributes=True)
        draft = replace(draft, owner=owner, name=name or draft.name)
        return Imported(self.add(draft, unpacked.prompt), unpacked.features)

    def faults(self) -> list[Fault]:
        """What was found not to be whole, and set aside."""
        return self._shelf.faults()


def _checked(draft: _Draft) -> _Draft:
    """The draft with its name as it is kept."""
    if draft.language is not None:
        check_language(draft.language)
    check_text(draft.prompt_text or "", "prompt_text")
    check_text(draft.description or "", "description")
    return replace(draft, name=check_name(draft.name))


def _check_free(voices: Sequence[VoiceProfile], new: VoiceProfile) -> None:
    key = name_key(new.name)
    for voice in voices:
        if voice.owner == new.owner and voice.id != new.id and name_key(voice.name) == key:
            raise NameTaken(f"there is a voice called {voice.name!r} already")


def _is_visible(voice: VoiceProfile, owner: str | None) -> bool:
    return owner is None or voice.owner in (None, owner)


def _find(voices: Sequence[VoiceProfile], key: str, owner: str | None) -> VoiceProfile:
    seen = [voice for voice in voices if _is_visible(voice, owner)]
    found = [voice for voice in seen if voice.id == key]
    if not found and len(key) <= 4 * NAME_CHARS:  # see check_name
        wanted = name_key(key)
        found = [voice for voice in seen if name_key(voice.name) == wanted]
    if not found:
        raise _not_found(key)
    return min(found, key=lambda voice: voice.owner != owner)


def _find_own(voices: Sequence[VoiceProfile], key: str, owner: str | None) -> VoiceProfile:
    voice = _find(voices, key, owner)
    if owner not in (None, voice.owner):
        raise NotOwner("this voice is everybody's to use, and not yours to change")
    return voice


def _not_found(key: str) -> VoiceNotFound:
    return VoiceNotFound(f"there is no voice {key[:NAME_CHARS]!r}")
