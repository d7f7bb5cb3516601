"""The nouns of this room; each is complete when it is built.

On disk they are JSON: a field that we do not know is ignored, one that is missing has its default,
so that an older and a newer server can share a store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from voices.prosody import Prosody

Samples: TypeAlias = npt.NDArray[np.float32]
"""float32 mono PCM in [-1, 1], shape [T]."""

TextSource: TypeAlias = Literal["given", "transcribed"]

VERSION: Final = 1
"""Of the JSON's form."""


class PromptReport(Struct, frozen=True, kw_only=True):
    """What was measured of a recording, and done to it. Levels are of the recording as it came."""

    duration_s: float
    """As it is kept."""
    given_duration_s: float
    peak_dbfs: float
    level_dbfs: float
    """RMS of the moments with speech."""
    clipped_share: float
    """Of all samples, 0 to 1, those cut off at full scale."""
    silence_share: float
    """Of the time as it is kept, 0 to 1, pauses between words included."""
    snr_db: float
    """Speech over the quietest tenth of the recording: an estimate; at most 96."""
    trimmed_start_s: float
    trimmed_end_s: float
    gain_db: float
    """What it was amplified by after it was measured."""
    prosody: Prosody = Prosody()
    """For engines that follow a voice instead of cloning it."""
    warnings: tuple[str, ...] = ()
    """Sentences for the person who recorded it."""


class CheckedPrompt(Struct, frozen=True):
    """A recording that a voice can be cloned from, ready to be kept."""

    samples: Samples
    sample_rate: int
    """Hz."""
    report: PromptReport


class VoiceDraft(Struct, frozen=True, kw_only=True):
    """What is said of a voice, apart from its audio."""

    name: str
    owner: str | None = None
    """Who may change it; None: everybody may use it. Any text that stands for an API key."""
    language: str | None = None
    """BCP 47."""
    prompt_text: str | None = None
    """What is said in the recording."""
    text_source: TextSource | None = None
    text_engine: str | None = None
    """The one that transcribed it."""
    text_confidence: float | None = None
    """0 to 1, of the transcript."""
    text_is_reliable: bool = False
    """Nobody needs to read it over."""
    consent_id: str | None = None
    description: str | None = None


class VoiceProfile(VoiceDraft, frozen=True, kw_only=True):
    """A voice in the store."""

    id: str
    created_at: int
    """Seconds since 1970."""
    sample_digest: str
    """SHA-256, hex, of the audio: see `flac.digest`."""
    sample_rate: int
    duration_s: float
    size_bytes: int
    """Of the audio as it is stored."""
    report: PromptReport
    version: int = VERSION


class VoiceEdit(Struct, frozen=True, kw_only=True):
    """What to change of a voice; None leaves a field as it is."""

    name: str | None = None
    language: str | None = None
    prompt_text: str | None = None
    description: str | None = None


class Imported(Struct, frozen=True):
    """A voice that came in an archive."""

    voice: VoiceProfile
    features: Mapping[str, bytes]
    """What its exporter's engines had computed, by file name; the engines judge its use."""
