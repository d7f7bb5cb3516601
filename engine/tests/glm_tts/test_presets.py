"""What a request's sampling fields come down to."""

from __future__ import annotations

import pytest

from engine.glm_tts.presets import PRESETS, preset_of
from engine.types import Sampling


def test_nothing_asked_is_what_the_model_was_published_with() -> None:
    preset = preset_of(Sampling())
    assert (preset.sampler, preset.temperature, preset.top_p, preset.top_k) == ("ras", 1.0, 0.8, 25)
    assert (preset.flow_steps, preset.cfg_rate) == (10, 0.7)


@pytest.mark.parametrize("strategy", ["fast", "balanced", "quality"])
def test_strategy_names_a_preset(strategy: str) -> None:
    assert preset_of(Sampling(strategy=strategy)) == PRESETS[strategy]  # type: ignore[arg-type]


def test_faster_presets_take_fewer_steps() -> None:
    steps = [PRESETS[name].flow_steps for name in ("fast", "balanced", "quality")]
    assert steps == sorted(set(steps))


def test_fields_override_the_preset() -> None:
    preset = preset_of(Sampling(strategy="fast", temperature=0.3, top_p=0.5, top_k=5))
    assert (preset.temperature, preset.top_p, preset.top_k) == (0.3, 0.5, 5)
    assert preset.flow_steps == PRESETS["fast"].flow_steps
