"""What `rhapsode bench glm` measures, and the settings of the servers that it starts for that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct, structs

from server.bench.crowd import Load
from server.bench.host import devices
from server.bench.measure import BenchError

TEXT = "The harbour was quiet tonight, and one lamp still burned over the old door by the sea wall."
"""One piece of speech. With random weights a byte of it is a token."""
READY_S = 600.0
"""Until a server has to be ready, or an engine awake."""
_TOKENS_PER_S = 25


class Plan(Struct, frozen=True, kw_only=True):
    """What to measure, and on what."""

    engine: str = "glm-tts"
    model: str | None = None
    """Folder of a checkpoint."""
    weights: Literal["random", "published"] = "random"
    """If there is no folder: made up, which gives noise at a real model's pace, or those that
    `rhapsode models pull` has fetched."""
    size: Literal["true", "tiny"] = "true"
    devices: tuple[str, ...] = ("auto",)
    voice: str = "alloy"
    timing: bool = True
    """Of each part by itself, first: in a process of its own, on the first device."""
    streams: tuple[int, ...] = (1, 4, 8, 16, 32, 64)
    players: bool = False
    """As many clients once more, each of which plays its clip before it asks for the next."""
    calls: int = 20
    """One after the other."""
    clip_s: float = 10.0
    """Of a short clip with random weights; a checkpoint decides for itself."""
    long_clips: int = 6
    """Short clips' texts in the long one; 0: leave it out."""
    stagger_s: float | None = None
    """From one client's start to the next one's; None: all begin within half of `clip_s`."""
    warm_up_s: float = 5.0
    measured_s: float = 20.0
    """For each number of streams."""
    scaling: tuple[int, ...] = ()
    """Numbers of devices, each with a server of its own: the first of `devices` if so many are
    named there, else those from cuda:0 on."""
    per_device: int = 48
    """Streams, when scaling."""

    def load(self, clients: int, *, plays: bool = False) -> Load:
        """How so many clients ask."""
        usual_s = self.clip_s / (2 * clients)
        return Load(
            clients=clients,
            stagger_s=usual_s if self.stagger_s is None else self.stagger_s,
            plays=plays,
            warm_up_s=self.warm_up_s,
            measured_s=self.measured_s,
        )

    def on_devices(self, count: int) -> Plan:
        """The same on so many devices."""
        named = self.devices[:count]
        if len(named) < count or "auto" in named:
            named = tuple(f"cuda:{index}" for index in range(count))
        return structs.replace(self, devices=named)

    def check(self) -> None:
        """See that it can be followed.

        Raises:
            BenchError: it cannot.
        """
        if min((*self.streams, *self.scaling, self.calls, self.per_device)) < 1:
            raise BenchError("numbers of streams, calls and devices must be 1 or more")
        if there := len(devices("name")):
            for count in self.scaling:
                if count > there and "cpu" not in self.on_devices(count).devices:
                    # A server would try to start for all of READY_S.
                    raise BenchError(f"--scaling {count}: the devices here are {there}")


def settings_of(plan: Plan) -> dict[str, object]:
    """That engine alone, and clips of as many seconds as are asked for."""
    others = {name: {"enabled": False} for name in ("espeak-ng", "whisper", "pocketsphinx")}
    engine: dict[str, object] = {"devices": list(plan.devices), "options": _options(plan)}
    if ":" in plan.engine:
        others["glm-tts"] = {"enabled": False}
    return {
        "speech_engines": [plan.engine],
        "pool": {"wait_s": READY_S, "wake_s": READY_S},
        "engines": {**others, plan.engine: engine},
    }


def timing_arguments(plan: Plan) -> Sequence[str]:
    """Of `engine.glm_tts.timing`; weights that were pulled go at the pace of made-up ones."""
    model = () if plan.model is None else ("--model", plan.model)
    return ("--device", plan.devices[0], "--size", plan.size, *model)


def _options(plan: Plan) -> dict[str, object]:
    if ":" in plan.engine:
        return {}
    if plan.model is not None:
        return {"model": plan.model}
    if plan.weights == "published":
        return {}
    ratio = plan.clip_s * _TOKENS_PER_S / len(TEXT)
    return {
        "random_weights": 0,
        "size": plan.size,
        "min_tokens_per_text_token": ratio,
        "max_tokens_per_text_token": ratio + 0.001,
    }
