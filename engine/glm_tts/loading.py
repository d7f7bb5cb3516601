"""Reads a part's tensors from its files, strictly and one at a time.

Nothing that a file could execute is: safetensors, or torch's own format by `weights_only`.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import torch
from msgspec import Struct
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.errors import LoadFailed
from engine.glm_tts.tensors import Shapes, Weights

Rename: TypeAlias = Callable[[str], str | None]
"""From a tensor's name in the file to our name; None: it is not needed."""


class StoredTensor(Struct, frozen=True):
    """A tensor that may not have been read yet."""

    file: Path
    shape: tuple[int, ...]
    read: Callable[[], Tensor]
    """Gives it, on the CPU."""


Stored: TypeAlias = dict[str, StoredTensor]


class _Index(Struct, frozen=True):
    weight_map: dict[str, str]


def open_safetensors(folder: Path, rename: Rename) -> Stored:
    """`model.safetensors`, or all the files that its index names.

    Raises:
        LoadFailed: a file is missing or damaged.
    """
    index = folder / "model.safetensors.index.json"
    files = {"model.safetensors"}
    if index.is_file():
        try:
            files = set(msgspec.json.decode(index.read_bytes(), type=_Index).weight_map.values())
        except msgspec.DecodeError as exc:
            raise LoadFailed(f"{index} is damaged: {exc}") from exc
    stored: Stored = {}
    for name in sorted(files):
        stored |= _open_shard(folder / name, rename)
    return stored


def open_pickled(path: Path, rename: Rename) -> Stored:
    """A state dict as torch saves it, or one below the key "model".

    Raises:
        LoadFailed: it is damaged, or holds something else.
    """
    try:
        # Mapped, so that a tensor takes memory as it is read; the oldest format cannot be.
        content = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except (RuntimeError, ValueError, OSError, EOFError, KeyError, pickle.UnpicklingError) as exc:
        raise LoadFailed(f"{path} is damaged: {_first_line(exc)}") from exc
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(t, Tensor) for t in content.values()):
        raise LoadFailed(f"{path} is not a state dict: it holds more, or other, than tensors")
    return {
        ours: StoredTensor(path, tuple(tensor.shape), tensor.detach)
        for name, tensor in content.items()
        if (ours := rename(name)) is not None
    }


def check(stored: Stored, expected: Shapes, path: Path, source: str) -> None:
    """See that the tensors are those that are expected: no more, no fewer, of the same shapes.

    Args:
        stored: What there is.
        expected: What there should be.
        path: Where a missing tensor was looked for.
        source: Who says what should be there.
    Raises:
        LoadFailed: naming the file, the tensor, and what both sides say.
    """
    if absent := sorted(expected.keys() - stored.keys()):
        raise LoadFailed(f"{path} has no {_named(absent)}, which {source} asks for")
    if more := sorted(stored.keys() - expected.keys()):
        raise LoadFailed(
            f"{stored[more[0]].file} has {_named(more)}, which {source} has no place for"
        )
    for name, shape in expected.items():
        if stored[name].shape != shape:
            raise LoadFailed(
                f"{stored[name].file}: {name} is {list(stored[name].shape)}, and by {source} it "
                f"should be {list(shape)}"
            )


def read(stored: Stored, device: torch.device, dtype: torch.dtype) -> Weights:
    """All tensors, on the device. One at a time passes through the host's memory.

    Raises:
        LoadFailed: a file cannot be read.
    """
    weights: Weights = {}
    for name, tensor in stored.items():
        try:
            weights[name] = tensor.read().to(device, dtype)
        except (SafetensorError, OSError) as exc:
            raise LoadFailed(f"{tensor.file}: {name}: {_first_line(exc)}") from exc
    return weights


def _open_shard(path: Path, rename: Rename) -> Stored:
    try:
        shard: Any = safe_open(path, framework="pt", device="cpu")
    except FileNotFoundError as exc:
        raise LoadFailed(f"there is no {path}") from exc
    except (SafetensorError, OSError) as exc:
        raise LoadFailed(f"{path} is damaged: {_first_line(exc)}") from exc
    return {
        ours: StoredTensor(
            path, tuple(shard.get_slice(name).get_shape()), partial(shard.get_tensor, name)
        )
        for name in shard.keys()  # noqa: SIM118  it is no dict
        if (ours := rename(name)) is not None
    }


def _named(names: Iterable[str]) -> str:
    first, *others = names
    return f"{first} (and {len(others)} more)" if others else first


def _first_line(exc: Exception) -> str:
    return str(exc).partition("\n")[0]
