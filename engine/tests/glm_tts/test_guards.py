"""How long a speech has been silent."""

from __future__ import annotations

import numpy as np

from engine.glm_tts.guards import SilenceRun
from engine.types import Samples


def sound(*parts: tuple[float, int]) -> Samples:
    return np.concatenate([np.full(count, level, np.float32) for level, count in parts])


def test_silence_adds_up_over_blocks_until_a_sound() -> None:
    run = SilenceRun(1000)
    run.hear(sound((0.5, 100), (0.0, 400)))
    assert run.seconds == 0.4
    run.hear(sound((0.0, 600)))
    assert run.seconds == 1.0
    run.hear(sound((0.0, 10), (-0.5, 1), (0.0, 5)))
    assert run.seconds == 0.005


def test_no_audio_changes_nothing() -> None:
    run = SilenceRun(1000)
    run.hear(sound((0.0, 100)))
    run.hear(np.zeros(0, np.float32))
    assert run.seconds == 0.1


def test_what_nobody_hears_is_silence() -> None:
    run = SilenceRun(1000)
    run.hear(sound((0.0005, 250)))
    assert run.seconds == 0.25
