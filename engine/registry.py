"""Which plug-ins there are. Nothing is imported until a worker asks for one."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import cast

import msgspec
from msgspec import Struct

from engine.config import EspeakOptions, WorkerConfig
from engine.errors import LoadFailed
from engine.protocol import Engine
from engine.types import Task


class Plugin(Struct, frozen=True, kw_only=True):
    """One line of the registry."""

    task: Task
    factory: str
    """`module:callable`; called with the options struct, gives the engine."""
    options: type[Struct]
    requires: tuple[str, ...]
    """Modules that must be importable."""
    install: str
    """What a person types to get them."""


PLUGINS: dict[str, Plugin] = {
    "espeak-ng": Plugin(
        task="speech",
        factory="engine.espeak.synthesizer:EspeakSynthesizer",
        options=EspeakOptions,
        requires=("espeakng_loader",),
        install="pip install rhapsode",
    ),
}


def missing_modules(name: str) -> list[str]:
    """The modules that the plug-in needs and this environment lacks; imports none of them."""
    return [module for module in PLUGINS[name].requires if find_spec(module) is None]


def create(config: WorkerConfig) -> Engine:
    """Build a plug-in, not yet loaded. Worker process.

    Raises:
        LoadFailed: unknown name, bad options, or a package that is not installed.
    """
    if (plugin := PLUGINS.get(config.engine)) is None:
        raise LoadFailed(f"unknown engine {config.engine!r}; known: {', '.join(sorted(PLUGINS))}")
    if missing := missing_modules(config.engine):
        raise LoadFailed(f"{config.engine} needs {', '.join(missing)}: {plugin.install}")
    try:
        options = msgspec.convert(config.options, plugin.options)
    except msgspec.ValidationError as exc:
        raise LoadFailed(f"options of {config.engine}: {exc}") from exc
    module, _, attribute = plugin.factory.partition(":")
    return cast("Engine", getattr(import_module(module), attribute)(options))
