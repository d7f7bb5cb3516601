"""Blobs of a bucket on this machine's disk; named by digest, they are never out of date."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Container
from pathlib import Path

from voices.names import new_ulid

logger = logging.getLogger(__name__)


class BlobCache:
    """Several processes may share it; a file that is damaged or missing is fetched again.

    Args:
        root: Made if it is not there; a folder a record.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, record_id: str, sha256: str) -> bytes | None:
        try:
            data = (self._root / record_id / sha256).read_bytes()
        except OSError:  # also a disk that fails: the bucket has it
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def put(self, record_id: str, sha256: str, data: bytes) -> None:
        folder = self._root / record_id
        aside = folder / f".{new_ulid()}"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            aside.write_bytes(data)
            aside.replace(folder / sha256)
        except OSError as exc:  # a full disk makes it slower, not wrong
            logger.warning("event=not_cached record_id=%s reason=%s", record_id, exc.strerror)

    def keep(self, record_ids: Container[str]) -> None:
        """Delete all other records' blobs."""
        if self._root.is_dir():
            for folder in self._root.iterdir():
                if folder.name not in record_ids:
                    shutil.rmtree(folder, ignore_errors=True)
