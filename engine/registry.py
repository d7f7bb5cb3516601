"""Which plug-ins there are. Nothing is imported until a worker asks for one."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import cast

import msgspec
from msgspec import Struct

from engine.config import (
    ESPEAK_VOICES,
    EspeakOptions,
    PocketsphinxOptions,
    WhisperOptions,
    WorkerConfig,
)
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
    embedded: bool = False
    """Runs unless it is disabled: it needs no download."""
    voices: dict[str, str] = {}
    """Voice names that it answers to, each with the voice in its own grammar."""


PLUGINS: dict[str, Plugin] = {
    "espeak-ng": Plugin(
        task="speech",
        factory="engine.espeak.synthesizer:EspeakSynthesizer",
        options=EspeakOptions,
        requires=("espeakng_loader",),
        install="pip install rhapsode",
        embedded=True,
        voices=ESPEAK_VOICES,
    ),
    "pocketsphinx": Plugin(
        task="transcription",
        factory="engine.pocketsphinx.transcriber:PocketsphinxTranscriber",
        options=PocketsphinxOptions,
        requires=("pocketsphinx",),
        install="pip install rhapsode",
    ),
    "whisper": Plugin(
        task="transcription",
        factory="engine.whisper.transcriber:WhisperTranscriber",
        options=WhisperOptions,
        requires=("faster_whisper",),
        install="pip install rhapsode",
    ),
}


def missing_modules(name: str) -> list[str]:
    """The modules that the plug-in needs and this environment lacks; imports none of them."""
    return [module for module in PLUGINS[name].requires if find_spec(module) is None]


def create(config: WorkerConfig) -> Engine:
    """Build a plug-in, not yet loaded. Worker process.

    An engine that is not ours is named `module:callable`, and gets its options as a dict.

    Raises:
        LoadFailed: unknown name, bad options, or a package that is not installed.
    """
    if ":" in config.engine:
        return _build(config.engine, config.options)
    if (plugin := PLUGINS.get(config.engine)) is None:
        raise LoadFailed(f"unknown engine {config.engine!r}; known: {', '.join(sorted(PLUGINS))}")
    if missing := missing_modules(config.engine):
        raise LoadFailed(f"{config.engine} needs {', '.join(missing)}: {plugin.install}")
    try:
        options = msgspec.convert(config.options, plugin.options, strict=False)
    except msgspec.ValidationError as exc:
        raise LoadFailed(f"options of {config.engine}: {exc}") from exc
    return _build(plugin.factory, options)


def _build(factory: str, options: object) -> Engine:
    module, _, attribute = factory.partition(":")
    return cast("Engine", getattr(import_module(module), attribute)(options))
