"""Which Whisper models there are, where they lie on this machine, and how to get one.

Light: it may be imported where no model runs. Nothing here loads one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from engine import hub
from engine.config import WhisperOptions
from engine.errors import LoadFailed

REPOSITORIES = {
    "tiny": "Systran/faster-whisper-tiny",
    "tiny.en": "Systran/faster-whisper-tiny.en",
    "base": "Systran/faster-whisper-base",
    "base.en": "Systran/faster-whisper-base.en",
    "small": "Systran/faster-whisper-small",
    "small.en": "Systran/faster-whisper-small.en",
    "medium": "Systran/faster-whisper-medium",
    "medium.en": "Systran/faster-whisper-medium.en",
    "large-v1": "Systran/faster-whisper-large-v1",
    "large-v2": "Systran/faster-whisper-large-v2",
    "large-v3": "Systran/faster-whisper-large-v3",
    "large": "Systran/faster-whisper-large-v3",
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "distil-small.en": "Systran/faster-distil-whisper-small.en",
    "distil-medium.en": "Systran/faster-distil-whisper-medium.en",
    "distil-large-v2": "Systran/faster-distil-whisper-large-v2",
    "distil-large-v3": "Systran/faster-distil-whisper-large-v3",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
}
"""faster-whisper's names, each with its repository on the hub."""

_BEST_FIRST = (
    "large-v3",
    "large-v3-turbo",
    "distil-large-v3.5",
    "distil-large-v3",
    "large-v2",
    "distil-large-v2",
    "large-v1",
    "medium",
    "medium.en",
    "small",
    "small.en",
    "distil-medium.en",
    "distil-small.en",
    "base",
    "base.en",
    "tiny",
    "tiny.en",
)

_MODEL_FILES = {
    "model.bin": ("model.bin",),
    "tokenizer.json": ("tokenizer.json",),
    "vocabulary.json": ("vocabulary.json", "vocabulary.txt"),
}
"""What a model needs to run without the network, each with the names it goes by."""

_FILES = {"config.json", "preprocessor_config.json"}.union(*_MODEL_FILES.values())


def find_model(model: str) -> Path | None:
    """The folder of a model that is whole, if there is one.

    Looked for as a local folder, in `hub.models_folder`, then in the Hugging Face cache.

    Args:
        model: A name, a repository or a folder.
    """
    return next((folder for folder in _candidates(model) if not _lacking(_names(folder))), None)


def chosen(options: WhisperOptions) -> str:
    """The model that the options mean: if they name none, the best that is here, else "base"."""
    if options.model is not None:
        return options.model
    return next((name for name in _BEST_FIRST if find_model(name) is not None), "base")


def missing(options: WhisperOptions) -> str | None:
    """One line that says what is not there and what to do; None when the engine can start.

    A model that the engine may download as it starts is not missing.
    """
    model = chosen(options)
    if find_model(model) is not None:
        return None
    if (folder := Path(model).expanduser()).is_dir():
        return _no_model(model, _names(folder))
    if model.startswith(("/", ".", "~")):
        return f"there is no folder {model}"
    if repository(model) is None:
        return _unknown(model)
    if options.download:
        return None
    return f"the model {model} is not on this machine: run `rhapsode models pull {model}`"


def pull(name: str, on_progress: Callable[[int, int], None]) -> Path:
    """Fetch a model into `hub.models_folder`, unless it is on this machine.

    Goes on where an earlier attempt stopped. The folder appears when all of it is there and
    checked. Blocks.

    Args:
        name: One of REPOSITORIES, or a repository on the hub.
        on_progress: Takes the bytes that are there, and the bytes in all, as they grow.
    Raises:
        LoadFailed: no such model, no answer from the hub, or no room on the disk.
    """
    if (found := find_model(name)) is not None:
        return found
    if (source := repository(name)) is None:
        raise LoadFailed(_unknown(name))
    snapshot = hub.snapshot(source, _FILES)
    if _lacking(names := {file.name for file in snapshot.files}):
        raise LoadFailed(_no_model(name, names))
    folder = hub.folder_of(source)
    hub.fetch(snapshot, folder, on_progress)
    return folder


def repository(name: str) -> str | None:
    """Where a model lies on the hub; None if it is no known name nor of a repository's form."""
    is_one = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, re.ASCII)
    return name if is_one else REPOSITORIES.get(name)


def _candidates(model: str) -> Iterator[Path]:
    yield Path(model).expanduser()
    if (name := repository(model)) is not None:
        yield from hub.folders(name)


def _names(folder: Path) -> set[str]:
    """Of the files that are really there: a link in the cache may lead nowhere."""
    return {path.name for path in folder.glob("*") if path.is_file()}


def _lacking(names: Collection[str]) -> list[str]:
    return [main for main, forms in _MODEL_FILES.items() if not any(f in names for f in forms)]


def _unknown(name: str) -> str:
    return f"there is no model {name!r}; known: {', '.join(REPOSITORIES)}"


def _no_model(name: str, names: Collection[str]) -> str:
    return f"{name} is not a whole faster-whisper model: it has no {', '.join(_lacking(names))}"
