"""Records in a folder of one machine: a folder a record, plain files in it.

    root/voice_01JD.../profile.json      whole, or not there: renamed into place
    root/voice_01JD.../prompt.flac
    root/.lock                           held while something changes; the kernel frees a dead one's
    root/.aside/                         being written or being deleted: nothing to whoever holds
                                         the lock, who clears it first
    root/.broken/voice_01JD...-ULID/     what was not whole, and why

Readers take no lock.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic

import msgspec

from voices.errors import StoreFull, StoreUnavailable
from voices.names import is_id, new_ulid
from voices.shelf import Decide, Fault, R, RecordKind

logger = logging.getLogger(__name__)

_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What may go wrong with a file that is whole."""
_REASON = ".reason"

_Stamp = tuple[int, int, int]
"""Tells one document from the next that takes its place."""


class _NotWhole(Exception):
    """Why a folder is no record."""


class FolderShelf(Generic[R]):
    """A `voices.shelf.Shelf` in a folder.

    Args:
        root: Made if it is not there; readable by nobody else.
        record_type: The document's struct.
        kind: Names.
    Raises:
        StoreUnavailable: the folder cannot be made.
    """

    def __init__(self, root: Path, record_type: type[R], kind: RecordKind) -> None:
        self._root = root
        self._kind = kind
        self._decoder = msgspec.json.Decoder(record_type)
        self._aside, self._broken = root / ".aside", root / ".broken"
        self._known: dict[str, tuple[_Stamp, R]] = {}
        with _os_errors(str(root)):
            for folder in (root, self._aside, self._broken):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def records(self, *, is_fresh: bool = False) -> list[R]:  # noqa: ARG002 (it always is)
        with _os_errors():
            records, broken = self._scan()
            if not broken:
                return records
            try:
                with self._alone():
                    return self._whole()
            except OSError as exc:  # a folder that we may only read is still read
                logger.warning("event=not_set_aside count=%d reason=%s", len(broken), exc.strerror)
                return records

    def recording(self, record: R) -> bytes | None:
        with _os_errors():
            try:
                return (self._root / record.id / self._kind.recording).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def put(self, decide: Decide[R], recording: bytes | None) -> R:
        with _os_errors(), self._alone():
            record = decide(self._whole())
            folder, aside = self._root / record.id, self._aside / new_ulid()
            aside.mkdir(mode=0o700)
            _write(aside / self._kind.document, msgspec.json.format(msgspec.json.encode(record)))
            if recording is None:
                (aside / self._kind.document).replace(folder / self._kind.document)
                _sync(folder)
            else:
                _write(aside / self._kind.recording, recording)
                _sync(aside)
                aside.rename(folder)
                _sync(self._root)
            return record

    def remove(self, decide: Decide[R]) -> R:
        with _os_errors(), self._alone():
            record = decide(self._whole())
            (self._root / record.id).rename(self._aside / new_ulid())
            _sync(self._root)
            return record

    def set_aside(self, record_id: str, reason: str) -> None:
        with _os_errors(), self._alone():
            self._set_aside(record_id, reason)

    def faults(self) -> list[Fault]:
        with _os_errors():
            return [
                Fault(file.stem.partition("-")[0], file.read_text("utf-8"))
                for file in sorted(self._broken.glob(f"*{_REASON}"))
            ]

    def _whole(self) -> list[R]:
        """All records, once what is not whole has been set aside. Only with the lock."""
        records, broken = self._scan()
        for record_id, reason in broken.items():
            self._set_aside(record_id, reason)
        return records

    def _scan(self) -> tuple[list[R], dict[str, str]]:
        """All records, and why the other folders are none."""
        known: dict[str, tuple[_Stamp, R]] = {}
        broken: dict[str, str] = {}
        with os.scandir(self._root) as entries:
            record_ids = sorted(
                each.name for each in entries if is_id(each.name, self._kind.prefix)
            )
        for record_id in record_ids:
            try:
                known[record_id] = self._load(record_id)
            except _NotWhole as exc:
                broken[record_id] = str(exc)
        self._known = known
        return [record for _, record in known.values()], broken

    def _load(self, record_id: str) -> tuple[_Stamp, R]:
        folder = self._root / record_id
        try:
            # A document is only ever replaced by another file, never written to.
            now = (folder / self._kind.document).stat()
            stamp = (now.st_ino, now.st_mtime_ns, now.st_size)
            known = self._known.get(record_id)
            if known is not None and known[0] == stamp:
                return known
            record = self._decoder.decode((folder / self._kind.document).read_bytes())
            size_bytes = (folder / self._kind.recording).stat().st_size
        except OSError as exc:
            if exc.errno in _OURS:
                raise
            raise _NotWhole(f"{exc.filename}: {exc.strerror}") from exc
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise _NotWhole(f"{self._kind.document}: {exc}") from exc
        if record.id != record_id:
            raise _NotWhole(f"{self._kind.document} belongs to {record.id!r}")
        if record.size_bytes != size_bytes:
            raise _NotWhole(f"{self._kind.recording} has {size_bytes} bytes")
        return stamp, record

    def _set_aside(self, record_id: str, reason: str) -> None:
        target = self._broken / f"{record_id}-{new_ulid()}"
        try:
            (self._root / record_id).rename(target)
            target.with_suffix(_REASON).write_text(reason, "utf-8")
        except OSError as exc:  # the others are whole all the same
            logger.warning("event=not_set_aside record_id=%s reason=%s", record_id, exc.strerror)
        else:
            logger.warning("event=set_aside record_id=%s reason=%s", record_id, reason)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock. Each opening of the file holds its own, so threads exclude each other."""
        with (self._root / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._clear()
            try:
                yield
            finally:
                self._clear()

    def _clear(self) -> None:
        for leftover in self._aside.iterdir():
            # What cannot be deleted now is in nobody's way, and the next one tries again.
            shutil.rmtree(leftover, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    """Write a new file through to the disk."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
    finally:
        os.close(file)


def _sync(folder: Path) -> None:
    """Make the renames in a folder outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _os_errors(folder: str = "the folder with the voices") -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull("the disk with the voices is full") from exc
        # The path is for the log: where we keep things is no client's business.
        logger.error("event=store_failed path=%s reason=%s", exc.filename, exc.strerror)  # noqa: TRY400
        raise StoreUnavailable(f"{folder} cannot be used: {exc.strerror}") from exc
