"""One order of changes for all hosts, in object storage that can only create, read and list.

    PREFIX/log/000000000001.json          a change; created if it is not there, so one host wins
    PREFIX/snapshots/000000000064.json    the sum of all changes up to it: spares a new host the log

Whoever wants to change something reads the log to its end, judges by what it then knows, and
creates the next entry. If another was faster it reads on and judges again. So a name is given once
and a limit holds, without locks, clocks or leases that a dead host could leave behind.

Entries hold ids and digests only: what a person gave is in blobs, and can be deleted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import msgspec
import obstore
from msgspec import Meta, Struct
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore

from voices.errors import StoreUnavailable
from voices.names import new_ulid

logger = logging.getLogger(__name__)

_SNAPSHOT_EVERY = 64


RecordId = Annotated[str, Meta(pattern=r"^[a-z]+_[0-9A-Z]{26}$")]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
"""SHA-256. Both name files on this machine: what is in a bucket must not choose where."""


class Blobs(Struct, frozen=True):
    """What a record is made of."""

    document: Digest
    recording: Digest


class Change(Struct, frozen=True, omit_defaults=True):
    """An entry of the log."""

    id: RecordId
    nonce: str
    """Tells two writers of the same change apart."""
    blobs: Blobs | None = None
    """As it is now; None: it is gone."""
    fault: str | None = None
    """Why it was set aside."""


class State(Struct, frozen=True):
    """The sum of the log's first `count` changes."""

    count: int = 0
    blobs: dict[RecordId, Blobs] = {}
    """Of each record."""
    faults: dict[RecordId, str] = {}
    """Why records were set aside."""

    def after(self, change: Change | None) -> State:
        """The next state; None is an entry that nobody can read, and changes nothing."""
        blobs, faults = dict(self.blobs), dict(self.faults)
        if change is not None:
            blobs.pop(change.id, None)
            if change.blobs is not None:
                blobs[change.id] = change.blobs
            if change.fault is not None:
                faults[change.id] = change.fault
        return State(self.count + 1, blobs, faults)


class CommitLog:
    """The changes under a prefix. Any thread; its methods raise StoreUnavailable.

    Args:
        store: The bucket.
        prefix: Ends without a slash.
        refresh_s: How old a state may be that need not be fresh.
        clock: Seconds that never run back.
    """

    def __init__(
        self,
        store: ObjectStore,
        prefix: str,
        refresh_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._refresh_s = refresh_s
        self._clock = clock
        self._lock = threading.Lock()
        self._state: State | None = None
        self._read_at = 0.0

    def state(self, *, is_fresh: bool) -> State:
        """The sum of the log.

        Args:
            is_fresh: Of all of it; else as it was `refresh_s` ago, or later.
        """
        with self._lock:
            now = self._clock()
            if self._state is None:
                self._state = self._newest_snapshot()
            elif not is_fresh and now - self._read_at < self._refresh_s:
                return self._state
            while (data := read(self._store, self._entry(self._state.count + 1))) is not None:
                self._state = self._state.after(_change(data))
            self._read_at = now
            return self._state

    def append(
        self, state: State, record_id: str, blobs: Blobs | None, fault: str | None = None
    ) -> bool:
        """Make a change right after `state`; False if another has been made there."""
        change = Change(record_id, new_ulid(), blobs, fault)
        key, data = self._entry(state.count + 1), msgspec.json.encode(change)
        with bucket_errors():
            # Before the change: once that is made, nothing may fail any more.
            if state.count and state.count % _SNAPSHOT_EVERY == 0:
                obstore.put(self._store, self._snapshot(state.count), msgspec.json.encode(state))
            try:
                obstore.put(self._store, key, data, mode="create")
            except AlreadyExistsError:
                # By us, if the answer to a first attempt was lost and the client tried again.
                if read(self._store, key) != data:
                    return False
        with self._lock:
            if self._state is state:
                self._state = state.after(change)
        return True

    def _entry(self, number: int) -> str:
        return f"{self._prefix}/log/{number:012d}.json"

    def _snapshot(self, number: int) -> str:
        return f"{self._prefix}/snapshots/{number:012d}.json"

    def _newest_snapshot(self) -> State:
        """It, or the beginning."""
        with bucket_errors():
            listed = obstore.list(self._store, prefix=f"{self._prefix}/snapshots").collect()
        for key in sorted((each["path"] for each in listed), reverse=True):
            try:
                return msgspec.json.decode(read(self._store, key) or b"", type=State)
            except (msgspec.DecodeError, UnicodeDecodeError):
                logger.warning("event=bad_snapshot key=%s", key)
        return State()


def read(store: ObjectStore, key: str) -> bytes | None:
    """An object; None if there is none."""
    with bucket_errors():
        try:
            return bytes(obstore.get(store, key).bytes())
        except FileNotFoundError:
            return None


@contextmanager
def bucket_errors() -> Iterator[None]:
    """Raises StoreUnavailable for whatever the bucket says."""
    try:
        yield
    except (BaseError, OSError) as exc:
        # Addresses are for the log. What follows the first line is for obstore's authors.
        logger.error("event=store_failed reason=%s", str(exc).partition("\n")[0])  # noqa: TRY400
        raise StoreUnavailable("the shared store with the voices does not answer") from exc


def _change(data: bytes) -> Change | None:
    try:
        return msgspec.json.decode(data, type=Change)
    except (msgspec.DecodeError, UnicodeDecodeError):
        logger.warning("event=bad_log_entry")
        return None
