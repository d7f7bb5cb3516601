"""Recordings and stores for the tests of this room."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from obstore.store import MemoryStore, ObjectStore

from voices.folder import FolderShelf
from voices.limits import StoreLimits
from voices.profile import CheckedPrompt, PromptReport, Samples, VoiceDraft, VoiceProfile
from voices.remote import RemoteShelf, open_bucket
from voices.shelf import R, RecordKind, Shelf
from voices.store import VOICES, VoiceStore

RATE = 24_000
REPORT = PromptReport(
    duration_s=0.1,
    given_duration_s=0.2,
    peak_dbfs=-3.0,
    level_dbfs=-20.0,
    clipped_share=0.0,
    silence_share=0.25,
    snr_db=40.0,
    trimmed_start_s=0.1,
    trimmed_end_s=0.0,
    gain_db=1.5,
    warnings=("too short for anything but a test",),
)


def noise(duration_s: float, rate: int = RATE, seed: int = 0) -> Samples:
    """White, RMS 1/10 of full scale."""
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal(round(duration_s * rate), dtype=np.float32)


def speech(duration_s: float, rate: int = RATE, level_dbfs: float = -20.0) -> Samples:
    """Like speech in level: syllables of a buzz at 4 Hz with 30 ms gaps, a pause every 2 s.

    The pauses hold digital silence. RMS of the syllables is `level_dbfs`.
    """
    time_s = np.arange(round(duration_s * rate)) / rate
    buzz = sum(np.sin(2 * np.pi * 120 * harmonic * time_s) for harmonic in range(1, 12))
    is_spoken = (time_s % 0.25 >= 0.03) & (time_s % 2.0 < 1.6)
    spoken = buzz * is_spoken
    rms = np.sqrt(np.mean(np.square(spoken[is_spoken])))
    scaled: Samples = (spoken / rms * 10 ** (level_dbfs / 20)).astype(np.float32)
    return scaled


def prompt(seed: int = 0, duration_s: float = 0.1, rate: int = RATE) -> CheckedPrompt:
    """Small, as the store asks nothing of what it keeps."""
    return CheckedPrompt(noise(duration_s, rate, seed), rate, REPORT)


def draft(name: str = "Anna", owner: str | None = None) -> VoiceDraft:
    return VoiceDraft(name=name, owner=owner, prompt_text="Good morning.", text_source="given")


class Place:
    """Where voices lie in a test; every `store()` is another process or host that opens it."""

    def __init__(self, kind: str, root: Path) -> None:
        self.kind = kind
        self.root = root
        self._hosts = 0
        self._bucket = {
            "folder": lambda: None,
            "file": lambda: open_bucket(f"file://{root}/bucket"),
            "memory": MemoryStore,
        }[kind]()

    @property
    def bucket(self) -> ObjectStore:
        assert self._bucket is not None
        return self._bucket

    def shelf(self, record_type: type[R], kind: RecordKind) -> Shelf[R]:
        if self._bucket is None:
            return FolderShelf(self.root / kind.folder, record_type, kind)
        self._hosts += 1
        cache_dir = self.root / f"cache{self._hosts}"
        return RemoteShelf(self._bucket, cache_dir, record_type, kind, refresh_s=0)

    def store(self, limits: StoreLimits | None = None) -> VoiceStore:
        return VoiceStore(self.shelf(VoiceProfile, VOICES), limits or StoreLimits())
