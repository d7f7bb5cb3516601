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

from engine.config import WorkerConfig
from engine.types import EngineInfo, PromptFeatures

logger = logging.getLogger(__name__)


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
        self._loaded: OrderedDict[str, PromptFeatures] = OrderedDict()

    @classmethod
    def of_worker(cls, config: WorkerConfig, info: EngineInfo) -> FeatureStore:
        """The store that a worker's command line asks for."""
        folder = Path(config.features_dir) if config.features_dir else None
        return cls(info.name, info.revision, config.features_memory_bytes, folder)

    def get(self, digest: str) -> PromptFeatures | None:
        """From memory, else from disk; None if neither has them, or the file is damaged."""
        features = self._loaded.get(digest) or self._read(digest)
        if features is not None:
            self._keep(digest, features)
        return features

    def put(self, digest: str, features: PromptFeatures) -> None:
        """Keep them.

        Raises:
            OSError: the disk will not take them. They are in memory all the same.
        """
        self._keep(digest, features)
        if self._folder is not None:
            self._write(self._path(self._folder, digest), digest, features)

    def _keep(self, digest: str, features: PromptFeatures) -> None:
        self._loaded[digest] = features
        self._loaded.move_to_end(digest)
        while len(self._loaded) > 1 and self._held_bytes() > self._memory_bytes:
            self._loaded.popitem(last=False)

    def _held_bytes(self) -> int:
        return sum(features.nbytes for features in self._loaded.values())

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

    def _read(self, digest: str) -> PromptFeatures | None:
        if self._folder is None or not (path := self._path(self._folder, digest)).is_file():
            return None
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                if file.metadata() != {**self._identity, "digest": digest}:
                    raise SafetensorError("the header is another's")
                return PromptFeatures({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except SafetensorError as exc:
            # They can be computed again.
            logger.warning("event=features_damaged file=%s reason=%s", path.name, exc)
            return None
