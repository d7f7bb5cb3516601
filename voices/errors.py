"""What can go wrong with a voice or a consent.

VoiceError
├── BadRequest                cannot be done as asked; `param` names the wire's field
│   ├── BadName
│   ├── BadLanguage
│   ├── BadText               a text about a voice that cannot be kept
│   ├── BadPage               the page of a list that is asked for cannot be
│   ├── BadRecording          a consent without a sound
│   ├── PromptRefused         not a recording to clone a voice from
│   └── BadArchive            not an exported voice, or a damaged one
├── NotFound
│   ├── VoiceNotFound         not there, or somebody else's: nobody learns which
│   └── ConsentNotFound
├── NotOwner                  everybody's to use, not yours to change
├── NameTaken
├── TooLarge                  one upload is over its limit
├── TooMany                   one owner is over theirs
├── StoreFull                 no room, by our limit or the disk's
├── StoreUnavailable          the folder or the bucket does not answer as it should
└── CorruptVoice              it was whole once; it has been set aside

Whatever is raised, the store is as it was before; only after StoreUnavailable one must look.
"""

from __future__ import annotations


class VoiceError(Exception):
    """Root of the tree; never raised itself."""

    param: str | None = None


class BadRequest(VoiceError):
    """The request cannot be done as asked; the message is for its sender to read."""


class BadName(BadRequest):
    param = "name"


class BadLanguage(BadRequest):
    param = "language"


class BadText(BadRequest):
    """Args: the message, and the field."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class BadPage(BadRequest):
    param = "limit"


class BadRecording(BadRequest):
    param = "recording"


class PromptRefused(BadRequest):
    param = "audio_sample"


class BadArchive(BadRequest):
    param = "file"


class NotFound(VoiceError):
    """No such thing, as far as its asker may know."""


class VoiceNotFound(NotFound):
    param = "voice"


class ConsentNotFound(NotFound):
    param = "consent"


class NotOwner(VoiceError):
    param = "voice"


class NameTaken(VoiceError):
    param = "name"


class TooLarge(VoiceError):
    """Args: the message, and the field that was too large."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class TooMany(VoiceError):
    """The owner has as many as one may have."""


class StoreFull(VoiceError):
    """There is no room for more."""


class StoreUnavailable(VoiceError):
    """Where the records lie does not answer as it should."""


class CorruptVoice(VoiceError):
    param = "voice"
