"""Where the published files lie on this machine, and how to get them.

Light: it may be imported where no model runs. Nothing here loads one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from engine import hub
from engine.config import GlmTtsOptions
from engine.errors import LoadFailed

NAME = "glm-tts"
"""What `pull` takes."""

REPOSITORY = "zai-org/GLM-TTS"
CAMPPLUS_REPOSITORY = "FunAudioLLM/CosyVoice-300M"
"""Has the speaker encoder, which REPOSITORY leaves out."""

LLM_FOLDER = "llm"
FLOW = "flow/flow.pt"
FLOW_CONFIG = "flow/config.yaml"
HIFT = "hift/hift.pt"
VOCOS = "vocos2d/generator_jit.ckpt"
SPEECH_TOKENIZER_FOLDER = "speech_tokenizer"
TOKENIZER_FOLDER = "vq32k-phoneme-tokenizer"
CAMPPLUS = "campplus.onnx"

_NEEDED = (
    f"{LLM_FOLDER}/config.json",
    FLOW,
    FLOW_CONFIG,
    HIFT,
    f"{SPEECH_TOKENIZER_FOLDER}/config.json",
    f"{SPEECH_TOKENIZER_FOLDER}/model.safetensors",
    f"{TOKENIZER_FOLDER}/tokenizer.model",
    f"{TOKENIZER_FOLDER}/tokenizer_config.json",
)
_LLM_WEIGHTS = (f"{LLM_FOLDER}/model.safetensors.index.json", f"{LLM_FOLDER}/model.safetensors")
"""One of them: in several files, or in one."""

_WANTED = (
    *_NEEDED,
    f"{LLM_FOLDER}/*.safetensors",
    f"{LLM_FOLDER}/*.safetensors.index.json",
    f"{SPEECH_TOKENIZER_FOLDER}/preprocessor_config.json",
    VOCOS,
)
_Has: TypeAlias = Callable[[str], bool]
_Lacking: TypeAlias = Callable[[_Has], list[str]]
_PULL = f"run `rhapsode models pull {NAME}`"


class ModelFiles(Struct, frozen=True):
    """A whole model on disk."""

    folder: Path
    """Laid out as REPOSITORY is."""
    campplus: Path


def find_model(options: GlmTtsOptions) -> ModelFiles:
    """The files that the options mean.

    Raises:
        LoadFailed: they are not there, and what to do about it.
    """
    folder = _find_folder(options)
    if options.sample_rate == 32_000 and not (folder / VOCOS).is_file():
        raise LoadFailed(f"sample_rate 32000 needs {VOCOS}, and {folder} has none")
    if (campplus := _find_campplus(folder)) is None:
        raise LoadFailed(f"the speaker encoder, {CAMPPLUS}, is not on this machine: {_PULL}")
    return ModelFiles(folder, campplus)


def missing(options: GlmTtsOptions) -> str | None:
    """One line that says what is not there and what to do; None when the engine can start."""
    if options.random_weights is not None:
        return None
    try:
        find_model(options)
    except LoadFailed as exc:
        return str(exc)
    return None


def pull(name: str, on_progress: hub.OnProgress) -> Path:
    """Fetch what is not on this machine yet, about 9 GB, into `hub.models_folder`.

    Goes on where an earlier attempt stopped. A folder appears when all of it is there and
    checked. Blocks.

    Args:
        name: NAME or REPOSITORY.
        on_progress: Takes the bytes that are there, and the bytes in all, as they grow.
    Raises:
        LoadFailed: no such model, no answer from the hub, or no room on the disk.
    """
    if name not in {NAME, REPOSITORY}:
        raise LoadFailed(f"there is no model {name!r}; known: {NAME}")
    found = _find_pulled()
    sources = [] if found else [_whole_snapshot(REPOSITORY, _WANTED, _lacking)]
    if _find_campplus(found) is None:
        sources.append(_whole_snapshot(CAMPPLUS_REPOSITORY, [CAMPPLUS], _lacking_campplus))
    _fetch(sources, on_progress)
    folder = found or hub.folder_of(REPOSITORY)
    # What was there before is not touched, whole or not.
    if lacking := _lacking(_on_disk(folder)):
        raise LoadFailed(f"{folder} has no {', '.join(lacking)}: delete it, then {_PULL}")
    return folder


def _whole_snapshot(repository: str, wanted: Sequence[str], lacking: _Lacking) -> hub.Snapshot:
    snapshot = hub.snapshot(repository, wanted)
    if absent := lacking({file.name for file in snapshot.files}.__contains__):
        raise LoadFailed(f"{repository} on the hub has no {', '.join(absent)}")
    return snapshot


def _fetch(sources: Sequence[hub.Snapshot], on_progress: hub.OnProgress) -> None:
    total = sum(source.size for source in sources)
    done = 0
    for source in sources:

        def report(size: int, _: int, before: int = done) -> None:
            on_progress(before + size, total)

        hub.fetch(source, hub.folder_of(source.repository), report)
        done += source.size


def _find_folder(options: GlmTtsOptions) -> Path:
    if options.model is None:
        if (found := _find_pulled()) is None:
            raise LoadFailed(f"GLM-TTS is not on this machine: {_PULL}")
        return found
    folder = Path(options.model).expanduser()
    if not folder.is_dir():
        raise LoadFailed(f"there is no folder {options.model}")
    if lacking := _lacking(_on_disk(folder)):
        raise LoadFailed(f"{folder} is not a whole GLM-TTS: it has no {', '.join(lacking)}")
    return folder


def _find_pulled() -> Path | None:
    places = hub.folders(REPOSITORY)
    return next((folder for folder in places if not _lacking(_on_disk(folder))), None)


def _find_campplus(folder: Path | None) -> Path | None:
    return next((path for path in _campplus_places(folder) if path.is_file()), None)


def _campplus_places(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder / CAMPPLUS
        yield folder / "frontend" / CAMPPLUS
    for other in hub.folders(CAMPPLUS_REPOSITORY):
        yield other / CAMPPLUS


def _lacking(has: _Has) -> list[str]:
    lacking = [name for name in _NEEDED if not has(name)]
    if not any(map(has, _LLM_WEIGHTS)):
        lacking.append(_LLM_WEIGHTS[0])
    return lacking


def _lacking_campplus(has: _Has) -> list[str]:
    return [] if has(CAMPPLUS) else [CAMPPLUS]


def _on_disk(folder: Path) -> _Has:
    """Whether a file is really there: a link in the hub's cache may lead nowhere."""
    return lambda name: (folder / name).is_file()
