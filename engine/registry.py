"""Which plug-ins there are. Nothing is imported until a worker asks for one."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import msgspec
from msgspec import Struct

from engine.config import (
    ESPEAK_VOICES,
    EspeakOptions,
    GlmTtsOptions,
    PocketsphinxOptions,
    WhisperOptions,
    WorkerConfig,
)
from engine.errors import LoadFailed
from engine.protocol import Engine
from engine.types import Device, Task


class Plugin(Struct, frozen=True, kw_only=True):
    """One line of the registry."""

    task: Task
    factory: str
    """`module:callable`; called with the options struct, gives the engine."""
    options: type[Struct]
    requires: tuple[str, ...]
    """Modules that must be importable."""
    missing: str | None = None
    """`module:callable`; options -> what else is not there and how to get it, or None. Light."""
    install: str
    """What a person types to get them."""
    pull: str | None = None
    """`module:callable`; (name, on_progress) -> folder, for `rhapsode models pull`."""
    device: Device = "cpu"
    """Where it runs unless the settings say; "auto": on a GPU if there is one."""
    voices: dict[str, str] = {}
    """Voice names that it answers to, each with the voice in its own grammar."""


PLUGINS: dict[str, Plugin] = {
    "glm-tts": Plugin(
        task="speech",
        factory="engine.glm_tts.pipeline:GlmTts",
        options=GlmTtsOptions,
        requires=("torch", "torchaudio", "onnxruntime", "tiktoken", "wetext"),
        install="pip install 'rhapsode[glm]'",
        missing="engine.glm_tts.models:missing",
        pull="engine.glm_tts.models:pull",
        device="auto",
    ),
    "espeak-ng": Plugin(
        task="speech",
        factory="engine.espeak.synthesizer:EspeakSynthesizer",
        options=EspeakOptions,
        requires=("espeakng_loader",),
        install="pip install espeakng-loader",
        voices=ESPEAK_VOICES,
    ),
    "pocketsphinx": Plugin(
        task="transcription",
        factory="engine.pocketsphinx.transcriber:PocketsphinxTranscriber",
        options=PocketsphinxOptions,
        requires=("pocketsphinx",),
        install="pip install pocketsphinx",
    ),
    "whisper": Plugin(
        task="transcription",
        factory="engine.whisper.transcriber:WhisperTranscriber",
        options=WhisperOptions,
        missing="engine.whisper.models:missing",
        pull="engine.whisper.models:pull",
        requires=("faster_whisper",),
        install="pip install faster-whisper",
    ),
}


def missing(config: WorkerConfig) -> str | None:
    """What the engine needs and this machine lacks, and how to get it: one line. Cheap.

    None for an engine that can be loaded, as far as that can be told without loading it.
    """
    if (plugin := PLUGINS.get(config.engine)) is None:
        return None
    if lacking := [module for module in plugin.requires if find_spec(module) is None]:
        return f"{config.engine} needs {', '.join(lacking)}: {plugin.install}"
    if plugin.missing is None:
        return None
    options = msgspec.convert(config.options, plugin.options, strict=False)
    return cast("str | None", _load(plugin.missing)(options))


def pull(name: str, on_progress: Callable[[int, int], None]) -> Path:
    """Fetch a model onto this machine. Blocks.

    Args:
        name: An engine's name, for its usual model, or a model that one of them knows.
        on_progress: Told bytes so far and bytes in all.
    Returns:
        Where it lies.
    Raises:
        LoadFailed: no such model, or it could not be fetched.
    """
    plugin = PLUGINS.get(name, PLUGINS["whisper"])
    if plugin.pull is None:
        raise LoadFailed(f"{name} needs no model")
    fetch = cast("Callable[[str, Callable[[int, int], None]], Path]", _load(plugin.pull))
    return fetch(name, on_progress)


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
    if (reason := missing(config)) is not None:
        raise LoadFailed(reason)
    try:
        options = msgspec.convert(config.options, plugin.options, strict=False)
    except msgspec.ValidationError as exc:
        raise LoadFailed(f"options of {config.engine}: {exc}") from exc
    return _build(plugin.factory, options)


def _build(factory: str, options: object) -> Engine:
    return cast("Engine", _load(factory)(options))


def _load(name: str) -> Callable[..., object]:
    module, _, attribute = name.partition(":")
    return cast("Callable[..., object]", getattr(import_module(module), attribute))
