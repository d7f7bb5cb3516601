"""Records in object storage that several hosts share: Amazon S3, Google Cloud Storage, a folder.

    PREFIX/blobs/voice_01JD.../SHA256     a document or a recording; never written to again
    PREFIX/log/, PREFIX/snapshots/        which blobs make up which record: see `commits`

A record's blobs are written first and become a record by one entry in the log; they are deleted
only once an entry has removed the record for good.

obstore, not fsspec: one wheel speaks to all stores, "create unless it is there" means the same on
each of them, and it blocks without the GIL. fsspec has no such create, and wants a package a store.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic

import msgspec
import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from voices.cache import BlobCache
from voices.commits import Blobs, CommitLog, State, bucket_errors, read
from voices.errors import StoreUnavailable, VoiceError
from voices.names import id_time_ms, is_id
from voices.shelf import Decide, Fault, R, RecordKind

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

logger = logging.getLogger(__name__)

_UPLOAD_MAX_MS = 3_600_000
"""A record that is not in the log this long after its id was made will never be."""
_READERS = 8
# Somebody waits for the answer, and obstore alone has three minutes of patience. Plain HTTP is
# used only where the endpoint is set to it, such as a MinIO next door.
_CLIENT: Final[ClientConfig] = {"connect_timeout": "3s", "timeout": "30s", "allow_http": True}
_RETRY: Final[RetryConfig] = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}


def open_bucket(url: str) -> ObjectStore:
    """The bucket, with credentials from the environment (or the machine's role).

    Args:
        url: `s3://bucket/prefix`, `gs://bucket/prefix`, `file:///folder`, ...
    Raises:
        StoreUnavailable: no such kind of store, or its settings do not do.
    """
    try:
        if url.startswith("file://"):
            return from_url(url, mkdir=True)
        return from_url(url, client_options=_CLIENT, retry_config=_RETRY)
    except (BaseError, OSError, ValueError) as exc:
        reason = str(exc).partition("\n")[0]
        raise StoreUnavailable(f"{url} cannot be opened: {reason}") from exc


class RemoteShelf(Generic[R]):
    """A `voices.shelf.Shelf` in a bucket.

    Args:
        bucket: See `open_bucket`.
        cache_dir: For blobs, on this machine.
        record_type: The document's struct.
        kind: Names.
        refresh_s: How late a change by another host may be seen where that does not matter.
        clock: Seconds that never run back.
    """

    def __init__(
        self,
        bucket: ObjectStore,
        cache_dir: Path,
        record_type: type[R],
        kind: RecordKind,
        refresh_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bucket = bucket
        self._kind = kind
        self._decoder = msgspec.json.Decoder(record_type)
        self._log = CommitLog(bucket, kind.folder, refresh_s, clock)
        self._cache = BlobCache(cache_dir / kind.folder)
        # By the digest of the document; None: it is not whole.
        self._known: dict[str, R | None] = {}
        self._seen_count: int | None = None
        self._is_swept = False

    def records(self, *, is_fresh: bool = False) -> list[R]:
        return self._records(self._state(is_fresh=is_fresh))

    def recording(self, record: R) -> bytes | None:
        for is_fresh in (False, True):
            state = self._state(is_fresh=is_fresh)
            blobs = state.blobs.get(record.id)
            if blobs and (data := self._blob(record.id, blobs.recording)) is not None:
                return data
        if record.id in state.blobs:
            self.set_aside(record.id, f"{self._kind.recording} is missing or damaged")
        return None

    def put(self, decide: Decide[R], recording: bytes | None) -> R:
        self._sweep_once()
        sent: str | None = None
        while True:
            state = self._state(is_fresh=True)
            try:
                record = decide(self._records(state))
            except VoiceError:
                if sent:  # while we uploaded, another host was faster
                    self._discard([record.id])
                raise
            if recording is not None and not sent:
                sent = self._upload(record.id, recording)
            document = self._upload(record.id, msgspec.json.encode(record))
            blobs = Blobs(document, sent or state.blobs[record.id].recording)
            if self._log.append(state, record.id, blobs):
                return record

    def remove(self, decide: Decide[R]) -> R:
        while True:
            state = self._state(is_fresh=True)
            record = decide(self._records(state))
            if self._log.append(state, record.id, None):
                break
        self._discard([record.id])
        self._state(is_fresh=False)
        return record

    def set_aside(self, record_id: str, reason: str) -> None:
        while record_id in (state := self._state(is_fresh=True)).blobs:
            if self._log.append(state, record_id, None, reason):
                logger.warning("event=set_aside record_id=%s reason=%s", record_id, reason)
                return

    def faults(self) -> list[Fault]:
        faults = self._state(is_fresh=True).faults
        return [Fault(record_id, reason) for record_id, reason in sorted(faults.items())]

    def _state(self, *, is_fresh: bool) -> State:
        """The state of the log; nothing is cached any longer of what it has removed."""
        state = self._log.state(is_fresh=is_fresh)
        if state.count != self._seen_count:
            self._seen_count = state.count
            self._cache.keep(state.blobs)
        return state

    def _records(self, state: State) -> list[R]:
        """The whole records of a state; others are set aside."""
        # A document has its record's id in it, so no two records share a digest.
        wanted = {state.blobs[each].document: each for each in sorted(state.blobs)}
        known = self._known
        if wanted.keys() != known.keys():
            unknown = wanted.keys() - known.keys()
            with ThreadPoolExecutor(_READERS) as pool:
                loaded = pool.map(lambda sha256: self._load(wanted[sha256], sha256), unknown)
                known = known | dict(zip(unknown, loaded, strict=True))
            self._known = known = {sha256: known[sha256] for sha256 in wanted}
            for sha256 in unknown:
                if known[sha256] is None:
                    self._report(wanted[sha256])
        return [record for record in known.values() if record is not None]

    def _report(self, record_id: str) -> None:
        try:
            self.set_aside(record_id, f"{self._kind.document} is missing or damaged")
        except StoreUnavailable as exc:  # a bucket that we may only read is still read
            logger.warning("event=not_set_aside record_id=%s reason=%s", record_id, exc)

    def _load(self, record_id: str, sha256: str) -> R | None:
        """The record of a document; None if it is not whole."""
        data = self._blob(record_id, sha256)
        try:
            record = self._decoder.decode(data or b"")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return record if record.id == record_id else None

    def _blob(self, record_id: str, sha256: str) -> bytes | None:
        """A blob's bytes; None if it is missing or damaged."""
        if (data := self._cache.get(record_id, sha256)) is not None:
            return data
        data = read(self._bucket, self._key(record_id, sha256))
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            return None
        self._cache.put(record_id, sha256, data)
        return data

    def _upload(self, record_id: str, data: bytes) -> str:
        """Put a blob; its digest."""
        sha256 = hashlib.sha256(data).hexdigest()
        with bucket_errors():
            obstore.put(self._bucket, self._key(record_id, sha256), data)
        return sha256

    def _key(self, record_id: str, sha256: str) -> str:
        return f"{self._kind.folder}/blobs/{record_id}/{sha256}"

    def _discard(self, record_ids: Sequence[str]) -> None:
        """Delete the blobs of records that are no more."""
        try:
            with bucket_errors():
                for record_id in record_ids:
                    prefix = f"{self._kind.folder}/blobs/{record_id}"
                    for blob in obstore.list(self._bucket, prefix=prefix).collect():
                        obstore.delete(self._bucket, blob["path"])
        except StoreUnavailable as exc:  # they are no more all the same; a sweep comes by
            logger.warning("event=not_deleted count=%d reason=%s", len(record_ids), exc)

    def _sweep_once(self) -> None:
        """Delete what uploads and removals of hosts that died have left behind."""
        if self._is_swept:
            return
        self._is_swept = True
        with bucket_errors():
            prefix = f"{self._kind.folder}/blobs/"
            listed = obstore.list_with_delimiter(self._bucket, prefix=prefix)["common_prefixes"]
        state = self._state(is_fresh=True)
        kept = state.blobs.keys() | state.faults.keys()
        before_ms = time.time() * 1000 - _UPLOAD_MAX_MS
        found = {path.rstrip("/").rpartition("/")[2] for path in listed}
        ours = [each for each in found - kept if is_id(each, self._kind.prefix)]
        self._discard([each for each in ours if id_time_ms(each) < before_ms])
