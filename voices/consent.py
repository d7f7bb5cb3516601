"""Consents: somebody says, in a recording, that a voice may be cloned."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from voices.errors import BadPage, BadRecording, ConsentNotFound
from voices.limits import StoreLimits, check_room, check_size
from voices.names import NAME_CHARS, check_language, check_name, new_consent_id
from voices.shelf import RecordKind, Shelf

CONSENTS: Final = RecordKind("consents", "cons", "consent.json", "recording")

_PAGE_MAX = 100


class VoiceConsent(Struct, frozen=True, kw_only=True):
    """A consent in the store."""

    id: str
    name: str
    owner: str | None = None
    language: str
    """BCP 47, of what is said."""
    created_at: int
    """Seconds since 1970."""
    media_type: str
    """Of the recording, as it came."""
    size_bytes: int
    """Of the recording."""


class ConsentPage(Struct, frozen=True):
    """A stretch of the list."""

    data: tuple[VoiceConsent, ...]
    has_more: bool


class ConsentStore:
    """Consents. An `owner` of None may see and change all; others their own. All methods block.

    Args:
        shelf: Where they lie.
        limits: How much may.
    """

    def __init__(self, shelf: Shelf[VoiceConsent], limits: StoreLimits) -> None:
        self._shelf = shelf
        self._limits = limits

    def add(
        self, name: str, language: str, recording: bytes, media_type: str, owner: str | None
    ) -> VoiceConsent:
        """Keep a consent, its recording as it came.

        Raises:
            BadRequest: the name or the language cannot be, or nothing is recorded.
            TooLarge, TooMany, StoreFull: beyond a limit.
        """
        if not recording:
            raise BadRecording("the recording is empty")
        check_size(recording, self._limits, "recording")
        consent = VoiceConsent(
            id=new_consent_id(),
            name=check_name(name),
            owner=owner,
            language=check_language(language),
            created_at=int(time.time()),
            media_type=media_type,
            size_bytes=len(recording),
        )

        def admit(consents: Sequence[VoiceConsent]) -> VoiceConsent:
            check_room(consents, consent, self._limits)
            return consent

        return self._shelf.put(admit, recording)

    def get(self, consent_id: str, owner: str | None) -> VoiceConsent:
        """Raises ConsentNotFound: not there, or somebody else's."""
        return _find(self._shelf.records(is_fresh=True), consent_id, owner)

    def page(self, owner: str | None, limit: int = 20, after: str | None = None) -> ConsentPage:
        """A stretch of the owner's consents, newest first.

        Args:
            owner: Whose.
            limit: 1 to 100.
            after: The id that the page before ended with; it may be gone by now.
        Raises:
            BadPage: the limit is none.
        """
        if not 1 <= limit <= _PAGE_MAX:
            raise BadPage(f"limit must be within 1 and {_PAGE_MAX}")
        consents = [
            consent
            for consent in reversed(self._shelf.records(is_fresh=True))
            # Ids rise with time, so a place in the list outlives the consent that marked it.
            if owner in (None, consent.owner) and (after is None or consent.id < after)
        ]
        return ConsentPage(tuple(consents[:limit]), has_more=len(consents) > limit)

    def rename(self, consent_id: str, owner: str | None, name: str) -> VoiceConsent:
        """Raises ConsentNotFound, BadName."""
        name = check_name(name)
        return self._shelf.put(
            lambda consents: replace(_find(consents, consent_id, owner), name=name), None
        )

    def remove(self, consent_id: str, owner: str | None) -> VoiceConsent:
        """Raises ConsentNotFound."""
        return self._shelf.remove(lambda consents: _find(consents, consent_id, owner))

    def recording(self, consent: VoiceConsent) -> bytes:
        """What `add` was given. Raises ConsentNotFound: it has been removed meanwhile."""
        recording = self._shelf.recording(consent)
        if recording is None:
            raise _not_found(consent.id)
        return recording


def _find(consents: Sequence[VoiceConsent], consent_id: str, owner: str | None) -> VoiceConsent:
    for consent in consents:
        if consent.id == consent_id and owner in (None, consent.owner):
            return consent
    raise _not_found(consent_id)


def _not_found(consent_id: str) -> ConsentNotFound:
    return ConsentNotFound(f"there is no consent {consent_id[:NAME_CHARS]!r}")
