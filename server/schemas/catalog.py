"""Models and voices, as lists and one by one."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from engine.types import Residence


class Model(Struct, frozen=True, kw_only=True):
    """OpenAI's four fields, then what an engine can do."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "rhapsode"
    engine: str
    """The engine behind it: of an alias, the one that it means now."""
    task: str
    state: str
    """"ready", "starting", "restarting", or "absent": `description` says what is missing."""
    residence: Residence | None = None
    """Where a ready engine's weights are: a request wakes one that is "offloaded" or "stopped"."""
    clones_voices: bool | None = None
    """None while the engine has yet to load."""
    embedded: bool | None = None
    accurate: bool | None = None
    """False: every second or third word is wrong."""
    honours: tuple[str, ...] | None = None
    """Optional request fields with an effect, sorted."""
    description: str = ""


class ModelList(Struct, frozen=True):
    data: tuple[Model, ...]
    object: Literal["list"] = "list"


class AudioModels(Struct, frozen=True):
    """What Open WebUI and speaches ask for."""

    models: tuple[Model, ...]
    object: Literal["list"] = "list"
