"""The stores of one place: a folder of this machine, or a bucket that several hosts share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from voices.consent import CONSENTS, ConsentStore, VoiceConsent
from voices.errors import StoreUnavailable
from voices.folder import FolderShelf
from voices.limits import StoreLimits
from voices.profile import VoiceProfile
from voices.shelf import R, RecordKind, Shelf
from voices.store import VOICES, VoiceStore


def default_place(environ: Mapping[str, str]) -> str:
    """Where voices lie if no setting says so: under the user's data folder."""
    return str(_user_folder(environ, "XDG_DATA_HOME", ".local/share"))


def default_cache(environ: Mapping[str, str]) -> Path:
    """Where this machine keeps what it has fetched from a bucket."""
    return _user_folder(environ, "XDG_CACHE_HOME", ".cache")


def open_voices(place: str, cache_dir: Path, limits: StoreLimits) -> VoiceStore:
    """The voices of a place.

    Args:
        place: A folder, or a URL: `s3://bucket/prefix`, `gs://bucket/prefix`, `file:///folder`.
        cache_dir: For what is fetched from a URL.
        limits: How much may be kept.
    Raises:
        StoreUnavailable: nothing can be kept there; the message says why.
    """
    return VoiceStore(_shelf(place, cache_dir, VoiceProfile, VOICES), limits)


def open_consents(place: str, cache_dir: Path, limits: StoreLimits) -> ConsentStore:
    """The consents of a place; as `open_voices`."""
    return ConsentStore(_shelf(place, cache_dir, VoiceConsent, CONSENTS), limits)


def _shelf(place: str, cache_dir: Path, record_type: type[R], kind: RecordKind) -> Shelf[R]:
    if "://" not in place:
        return FolderShelf(Path(place).expanduser() / kind.folder, record_type, kind)
    try:
        from voices.remote import RemoteShelf, open_bucket
    except ModuleNotFoundError as exc:
        raise StoreUnavailable(
            f"{place} needs the package {exc.name}: pip install obstore"
        ) from exc
    # A cache of its own for each place: it drops what the place does not have.
    own_cache = cache_dir / hashlib.sha256(place.encode()).hexdigest()[:16]
    return RemoteShelf(open_bucket(place), own_cache, record_type, kind)


def _user_folder(environ: Mapping[str, str], variable: str, otherwise: str) -> Path:
    base = environ.get(variable)
    return (Path(base) if base else Path.home() / otherwise) / "rhapsode"
