"""Where records lie: the contract of the two shelves, a folder and a bucket.

A record is a small document and one recording. Neither shelf knows what is in the document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from msgspec import Struct


class Record(Protocol):
    """What a shelf reads of a document; a msgspec struct."""

    @property
    def id(self) -> str: ...

    @property
    def size_bytes(self) -> int:
        """Of the recording."""
        ...


R = TypeVar("R", bound=Record)

Decide = Callable[[Sequence[R]], R]
"""Given all records, the one to put or to remove; raises to leave all as it is. It may be called
again with newer records, so it has no effects."""


class RecordKind(Struct, frozen=True):
    """What lies on a shelf, and by which names."""

    folder: str
    """Where they lie together."""
    prefix: str
    """Of their ids."""
    document: str
    recording: str
    """File names."""


class Fault(Struct, frozen=True):
    """A record that is not whole; its files are kept for a person to look at."""

    record_id: str
    reason: str


class Shelf(Protocol[R]):
    """Any thread, any process, for the folder, and any host, for the bucket.

    All methods block on I/O, and all raise StoreUnavailable when it fails.
    """

    def records(self, *, is_fresh: bool = False) -> list[R]:
        """All whole records by age, oldest first.

        Args:
            is_fresh: What others have just put must be there too.
        """
        ...

    def recording(self, record: R) -> bytes | None:
        """The recording; None when the record is gone."""
        ...

    def put(self, decide: Decide[R], recording: bytes | None) -> R:
        """Put a new record, or a new document for one that is there.

        It is whole for every reader, or not there at all; no other change comes between the
        records that `decide` saw and the one it gave.

        Args:
            decide: Gives the record.
            recording: Of a new record; None keeps the one that is there.
        Raises:
            StoreFull: no space left.
        """
        ...

    def remove(self, decide: Decide[R]) -> R:
        """Remove a record and its files for good."""
        ...

    def set_aside(self, record_id: str, reason: str) -> None:
        """Take a record that is not whole off the shelf, and keep its files."""
        ...

    def faults(self) -> list[Fault]:
        """What has been set aside."""
        ...
