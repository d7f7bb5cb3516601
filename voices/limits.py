"""How much may be kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from voices.errors import StoreFull, TooLarge, TooMany


class StoreLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of voices, and again of consents."""

    recording_bytes: int = 10 << 20
    """Of one recording, as it is stored."""
    archive_bytes: int = 64 << 20
    """Of an imported voice, unpacked."""
    per_owner: int = 100
    """Records of one API key; without keys, of everybody together."""
    total_bytes: int = 10 << 30
    """Of all recordings."""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be 1 or more")


class Owned(Protocol):
    """What takes up somebody's room."""

    @property
    def owner(self) -> str | None: ...

    @property
    def size_bytes(self) -> int: ...


def check_size(recording: bytes, limits: StoreLimits, param: str) -> None:
    """Raises TooLarge, naming the field that the recording came in."""
    if len(recording) > limits.recording_bytes:
        raise TooLarge(
            f"the recording takes {len(recording)} bytes; "
            f"at most {limits.recording_bytes} are kept of one",
            param,
        )


def check_room(present: Sequence[Owned], new: Owned, limits: StoreLimits) -> None:
    """Raises TooMany or StoreFull if there is no room for one more."""
    if sum(each.owner == new.owner for each in present) >= limits.per_owner:
        raise TooMany(f"at most {limits.per_owner} are kept: delete one first")
    if sum(each.size_bytes for each in present) + new.size_bytes > limits.total_bytes:
        raise StoreFull(f"at most {limits.total_bytes} bytes are kept, of all recordings")
