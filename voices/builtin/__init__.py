"""Voices that ship with the project: a prompt for each of OpenAI's names, for engines that clone.

Made by the project's own embedded engine (`python -m server.builtin`), so that nobody's voice and
nobody's licence is in them. They sound like what they are: plainly synthetic.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

from voices import flac
from voices.errors import CorruptVoice
from voices.profile import Samples, VoiceProfile

FOLDER = Path(__file__).parent
DOCUMENT, RECORDING = "profile.json", "prompt.flac"


@cache
def builtin_voices() -> dict[str, VoiceProfile]:
    """By name."""
    found = (
        msgspec.json.decode(path.read_bytes(), type=VoiceProfile)
        for path in sorted(FOLDER.glob(f"*/{DOCUMENT}"))
    )
    return {voice.name: voice for voice in found}


def builtin_samples(voice: VoiceProfile) -> tuple[Samples, int]:
    """Float32 mono [T], and its rate, Hz.

    Raises:
        CorruptVoice: it is not what was shipped.
    """
    pcm, sample_rate = flac.decode((FOLDER / voice.name / RECORDING).read_bytes())
    if flac.digest(pcm, sample_rate) != voice.sample_digest:
        raise CorruptVoice(f"the voice {voice.name} is not what was shipped")
    return flac.to_samples(pcm), sample_rate
