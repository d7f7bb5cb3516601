"""A voice that comes with one request: its recording out of the JSON, and the last ones that came.

Nothing of it goes to disk. Event loop only, but for `recording_of`.
"""

from __future__ import annotations

import binascii
import re
from collections import OrderedDict

from msgspec import Struct

from engine.types import EngineInfo, PromptRef, VoicePrompt
from server.errors import ApiError
from server.library import SpeakingVoice, recorded_voice
from voices import flac
from voices.profile import CheckedPrompt

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_HEAD_CHARS = 200
"""Before a data URL's comma, at most."""
_PIECE_CHARS = 1 << 20
"""Decoded at once, some 4 ms: the GIL is not let go meanwhile. A multiple of four."""


class BorrowedVoice(Struct, frozen=True):
    """A recording that came with a request."""

    prompt: CheckedPrompt
    digest: str
    """Of its sound, as of a stored voice's."""
    text: str | None = None
    """What is said in it; None as long as nobody has needed it."""
    language: str | None = None
    """BCP 47, as it was heard."""

    def speaking(self, info: EngineInfo) -> SpeakingVoice:
        """What it comes down to for one engine."""
        ref = PromptRef(self.digest, self.text or "")
        return recorded_voice(ref, self.prompt.report.prosody, self.language, info)

    async def read(self) -> VoicePrompt:
        """The sound, as `engine.protocol.PromptSource` has it."""
        return VoicePrompt(
            digest=self.digest,
            samples=self.prompt.samples.tobytes(),
            sample_rate=self.prompt.sample_rate,
            text=self.text or "",
            language=self.language,
            is_temporary=True,
        )


def prompt_digest(prompt: CheckedPrompt) -> str:
    """What the voice's digest would be if it was stored."""
    return flac.digest(flac.to_pcm16(prompt.samples), prompt.sample_rate)


class RecentVoices:
    """The voices that came last: the same recording need not be decoded and transcribed again.

    Args:
        memory_bytes: Of samples; the least recently used go first, and the newest stays.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._voices: OrderedDict[bytes, BorrowedVoice] = OrderedDict()

    def get(self, key: bytes) -> BorrowedVoice | None:
        return self._voices.get(key)

    def put(self, key: bytes, voice: BorrowedVoice) -> None:
        self._voices[key] = voice
        self._voices.move_to_end(key)
        while len(self._voices) > 1 and self._held_bytes() > self._memory_bytes:
            self._voices.popitem(last=False)

    def _held_bytes(self) -> int:
        return sum(voice.prompt.samples.nbytes for voice in self._voices.values())


def base64_chars(size_bytes: int) -> int:
    """How long so many bytes are in base64."""
    return (size_bytes + 2) // 3 * 4


def recording_of(text: str, max_bytes: int) -> bytes:
    """A file out of a JSON string. Blocks.

    Args:
        text: `data:...;base64,` and base64, or base64 alone; it may have white space in it.
        max_bytes: Of the file.
    Raises:
        ApiError: 400, neither; 413, too large.
    """
    encoded = "".join(_encoded(text).split())
    if len(encoded) > base64_chars(max_bytes):
        raise _too_large(max_bytes)
    pieces = range(0, len(encoded), _PIECE_CHARS)
    try:
        file = b"".join(
            binascii.a2b_base64(encoded[at : at + _PIECE_CHARS], strict_mode=True) for at in pieces
        )
    except ValueError as exc:  # of which binascii.Error is one
        raise _refused("not base64") from exc
    if len(file) > max_bytes:
        raise _too_large(max_bytes)
    return file


def _encoded(text: str) -> str:
    """What stands behind a data URL's head; a text that has none, as it is."""
    if (scheme := _SCHEME.match(text)) is None:
        return text
    if scheme[0].lower() != "data:":
        raise _refused("no URL is fetched; send the recording itself, as a data URL or as base64")
    head, comma, encoded = text.partition(",")
    if not comma or len(head) > _HEAD_CHARS or not head.lower().endswith(";base64"):
        raise _refused("a data URL must be data:audio/...;base64,...")
    return encoded


def _refused(reason: str) -> ApiError:
    return ApiError(400, f"ref_audio: {reason}", param="ref_audio", code="invalid_value")


def _too_large(max_bytes: int) -> ApiError:
    message = f"ref_audio: the recording is larger than {max_bytes} bytes"
    return ApiError(413, message, param="ref_audio", code="request_too_large")
