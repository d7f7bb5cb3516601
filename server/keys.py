"""API keys: several, each with a name, known by their hash alone.

A key is 256 random bits, so one round of SHA-256 is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from hmac import compare_digest
from pathlib import Path
from secrets import token_urlsafe

from msgspec import Struct

from server.settings import KeyLimits, Settings, SettingsError

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEY_BYTES = 32


class Key(Struct, frozen=True):
    """A key that is let in."""

    name: str
    digest: str
    """SHA-256, 64 hex digits."""
    limits: KeyLimits = KeyLimits()
    is_batch: bool = False
    """Its requests wait behind the others'."""


class Keyring:
    """All keys that are let in; none at all means that everybody is.

    Args:
        keys: Names and digests differ.
    """

    def __init__(self, keys: Sequence[Key]) -> None:
        self.keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self.keys)

    def find(self, given: str) -> Key | None:
        """The key that this is."""
        digest = digest_of(given)
        # Compares with all of them, so that time tells nothing of which one came close.
        found = [key for key in self.keys if compare_digest(digest, key.digest)]
        return found[0] if found else None


def digest_of(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keyring(settings: Settings) -> Keyring:
    """All keys of the settings and of the file that they name.

    Raises:
        SettingsError: the file cannot be read, or holds no key; a name or a key is there twice; a
            name in `keys` has no hash anywhere.
    """
    digests: dict[str, str] = {}
    for name, digest in _named_digests(settings):
        if name in digests or digest in digests.values():
            raise SettingsError(f"bad setting: the API key {name!r} is there twice")
        digests[name] = digest
    if unknown := settings.keys.keys() - digests:
        raise SettingsError(f"bad setting: keys.{min(unknown)}: no key has this name; set its hash")
    return Keyring([_key(settings, name, digest) for name, digest in digests.items()])


def add_key(path: Path, name: str) -> str:
    """Make a key and add its hash to a file, which is made if need be.

    Returns:
        The key; it is kept nowhere.
    Raises:
        SettingsError: a bad name, or one that is in the file.
        OSError: the file cannot be written.
    """
    _check_name(name, str(path))
    if path.exists() and name in dict(_read_file(path)):
        raise SettingsError(f"{path} has a key {name!r} already: delete its line first")
    key = f"sk-{token_urlsafe(_KEY_BYTES)}"
    path.touch(mode=0o600)
    text = path.read_text(encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" if text and not text.endswith("\n") else "")
        file.write(f"{name}:{digest_of(key)}\n")
    return key


def _named_digests(settings: Settings) -> Iterator[tuple[str, str]]:
    for index, key in enumerate(settings.api_keys, 1):
        yield f"key-{index}", digest_of(key)
    for name, each in settings.keys.items():
        if each.hash is not None:
            _check_name(name, "keys")
            yield name, _checked_digest(each.hash, f"keys.{name}.hash")
    if settings.keys_file is not None:
        path = Path(settings.keys_file)
        pairs = _read_file(path)
        if not pairs:
            raise SettingsError(f"{path} holds no API key: add one with 'rhapsode keys add NAME'")
        yield from pairs


def _read_file(path: Path) -> list[tuple[str, str]]:
    """Lines of `name:hash`; blank ones and those that begin with # are skipped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        raise SettingsError(f"cannot read {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise SettingsError(f"{path} is not text") from exc
    pairs = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and not line.startswith("#"):
            name, _, digest = line.partition(":")
            where = f"{path}, line {number}"
            _check_name(name, where)
            pairs.append((name, _checked_digest(digest, where)))
    return pairs


def _key(settings: Settings, name: str, digest: str) -> Key:
    if (own := settings.keys.get(name)) is None:
        return Key(name, digest, settings.key_limits)
    return Key(name, digest, own.over(settings.key_limits), own.batch)


def _check_name(name: str, where: str) -> None:
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{where}: a key's name is up to 64 of a-z, 0-9, _ and -, and begins with none of the "
            "last two"
        )


def _checked_digest(digest: str, where: str) -> str:
    # The line is not shown: somebody may have written the key itself.
    if not _DIGEST.fullmatch(digest):
        raise SettingsError(f"{where}: a hash is 64 hex digits in lower case")
    return digest
