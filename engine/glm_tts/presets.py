"""How a request's sampling fields come down to the model's own settings."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from engine.types import Sampling


class Preset(Struct, frozen=True, kw_only=True):
    """All that decides how a text is drawn and rendered, but the seed."""

    sampler: Literal["ras", "topk"] = "ras"
    """Repetition-aware, or plain top-k."""
    temperature: float = 1.0
    top_p: float = 0.8
    top_k: int = 25
    flow_steps: int = 10
    cfg_rate: float = 0.7
    """How far the flow is pushed away from what it would do without prompt and speaker."""


PRESETS = {
    "fast": Preset(sampler="topk", flow_steps=6),
    "balanced": Preset(),
    "quality": Preset(flow_steps=20),
}
"""`balanced` is what the model was published with. `fast` spends six solver steps on a clip where
that spends ten and draws once a token; `quality` spends twenty."""


def preset_of(sampling: Sampling) -> Preset:
    """The strategy's preset with the fields that the request gives."""
    preset = PRESETS[sampling.strategy or "balanced"]
    return replace(
        preset,
        temperature=preset.temperature if sampling.temperature is None else sampling.temperature,
        top_p=preset.top_p if sampling.top_p is None else sampling.top_p,
        top_k=preset.top_k if sampling.top_k is None else sampling.top_k,
    )
