"""Makes the voices that ship with the project: `python -m server.builtin`.

A developer's tool: the result is committed. Each is the embedded engine's voice of that name.
"""

from __future__ import annotations

import asyncio
import io
import time

import msgspec

from engine.config import ESPEAK_VOICES
from server.audio.decode import DecodeLimits, decode_clip
from server.offline import speak_to
from server.settings import Settings
from voices import flac
from voices.builtin import DOCUMENT, FOLDER, RECORDING
from voices.names import new_voice_id
from voices.profile import VoiceProfile
from voices.prompt_check import check_prompt

TEXT = "Good morning, and welcome. This is how I sound when I read a short text aloud, for you."


def main() -> None:
    """Write every voice anew."""
    for name in ESPEAK_VOICES:
        make(name)


def make(name: str) -> None:
    """Write one voice."""
    file = io.BytesIO()
    options: dict[str, object] = {"model": "espeak-ng", "voice": name, "response_format": "wav"}
    asyncio.run(speak_to(file, Settings(), TEXT, options))
    prompt = check_prompt(*decode_clip(file, DecodeLimits()))
    pcm = flac.to_pcm16(prompt.samples)
    recording = flac.encode(pcm, prompt.sample_rate)
    voice = VoiceProfile(
        id=new_voice_id(),
        name=name,
        created_at=int(time.time()),
        language="en",
        prompt_text=TEXT,
        text_source="given",
        text_is_reliable=True,
        description=f"espeak-ng, {ESPEAK_VOICES[name]}",
        sample_digest=flac.digest(pcm, prompt.sample_rate),
        sample_rate=prompt.sample_rate,
        duration_s=len(pcm) / prompt.sample_rate,
        size_bytes=len(recording),
        report=prompt.report,
    )
    folder = FOLDER / name
    folder.mkdir(exist_ok=True)
    document = msgspec.json.format(msgspec.json.encode(voice), indent=2)
    (folder / DOCUMENT).write_bytes(document + b"\n")
    (folder / RECORDING).write_bytes(recording)


if __name__ == "__main__":
    main()
