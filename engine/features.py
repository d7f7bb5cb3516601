"""Features of prompts, kept on disk and in memory. A worker's loop only.

A file for each (engine, revision of its weights, digest of the sound): safetensors, whose header
names all three. Files are written aside and renamed, so that several workers may share a folder.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections import OrderedDict
from pathlib import Path

from msgspec import Struct

from engine.config import WorkerConfig
from engine.types import EngineInfo, PromptFeatures

logger = logging.getLogger(__name__)


class _Held(Struct, frozen=True):
    """Features in memory."""

    features: PromptFeatures
    is_on_disk: bool


class FeatureStore:
    """Least recently used features leave memory first; on disk they stay.

    Args:
        engine: Name of the engine.
        revision: Of its weights.
        memory_bytes: Kept in memory at most; the newest is kept whatever its size.
        folder: Where they are kept for good; None: nowhere.
    """

    def __init__(self, engine: str, revision: str, memory_bytes: int, folder: Path | None) -> None:
        self._identity = {"engine": engine, "revision": revision}
        self._memory_bytes = memory_bytes
        self._folder = folder
        self._loaded: OrderedDict[str, _Held] = OrderedDict()

    @classmethod
    def of_worker(cls, config: WorkerConfig, info: EngineInfo) -> FeatureStore:
        """The store that a worker's command line asks for."""
        folder = Path(config.features_dir) if config.features_dir else None
        return cls(info.name, info.revision, config.features_memory_bytes, folder)

    def get(self, digest: str) -> PromptFeatures | None:
        """From memory, else from disk; None if neither has them, or the file is damaged."""
        held = self._loaded.get(digest) or self._read(digest)
        if held is None:
            return None
        self._keep(digest, held)
        return held.features

    def put(self, digest: str, features: PromptFeatures, *, is_temporary: bool = False) -> None:
        """Keep them.

        Args:
            digest: Of the prompt.
            features: Of the same prompt, the same each time.
            is_temporary: Not on disk. Another `put` that does not say so takes them there.
        Raises:
            OSError: the disk will not take them. They are in memory all the same.
        """
        is_on_disk = digest in self._loaded and self._loaded[digest].is_on_disk
        self._keep(digest, _Held(features, is_on_disk))
        if not (is_temporary or is_on_disk or self._folder is None):
            self._write(self._path(self._folder, digest), digest, features)
            self._keep(digest, _Held(features, is_on_disk=True))

    def _keep(self, digest: str, held: _Held) -> None:
        self._loaded[digest] = held
        self._loaded.move_to_end(digest)
        while len(self._loaded) > 1 and self._held_bytes() > self._memory_bytes:
            self._loaded.popitem(last=False)

    def _held_bytes(self) -> int:
        return sum(held.features.nbytes for held in self._loaded.values())

    def _path(self, folder: Path, digest: str) -> Path:
        """Hashed: neither a digest nor a revision from outside can name another file."""
        key = "\0".join((*self._identity.values(), digest))
        return folder / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"

    def _write(self, path: Path, digest: str, features: PromptFeatures) -> None:
        from safetensors.numpy import save

        path.parent.mkdir(parents=True, exist_ok=True)
        data = save(features.arrays, metadata={**self._identity, "digest": digest})
        handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(part).replace(path)
        finally:
            Path(part).unlink(missing_ok=True)

    def _read(self, digest: str) -> _Held | None:
        if self._folder is None or not (path := self._path(self._folder, digest)).is_file():
            return None
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                if file.metadata() != {**self._identity, "digest": digest}:
                    raise SafetensorError("the header is another's")
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return _Held(PromptFeatures(arrays), is_on_disk=True)
        except SafetensorError as exc:
            # They can be computed again.
            logger.warning("event=features_damaged file=%s reason=%s", path.name, exc)
            return None
