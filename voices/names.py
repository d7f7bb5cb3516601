"""Ids that nobody can guess or collide with, and names that a person can read and tell apart."""

from __future__ import annotations

import re
import secrets
import threading
import time
import unicodedata

from voices.errors import BadLanguage, BadName, BadText

NAME_CHARS = 100
"""Code points in a name, at most."""
TEXT_CHARS = 4000
"""Code points in what is said in a prompt, or about a voice, at most."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_RANDOM_BITS = 80
_ANY_ID = re.compile(rf"(voice|cons)_{_ULID.pattern}", re.IGNORECASE)
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,8}")

_UNREADABLE = {
    "Cc": "control characters",
    "Cf": "invisible or direction-changing characters",
    "Cs": "lone surrogates",
    "Co": "private-use characters",
    "Zl": "line breaks",
    "Zp": "line breaks",
}
# Letters and symbols by category that show as nothing: joiner, fillers of Hangul, empty braille.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


class _UlidClock:
    """ULIDs that rise within this process, whatever the clock of the machine does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> str:
        fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
        with self._lock:
            is_same_ms = fresh >> _RANDOM_BITS <= self._last >> _RANDOM_BITS
            self._last = self._last + 1 if is_same_ms else fresh
            number = self._last
        return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


_clock = _UlidClock()


def new_ulid() -> str:
    """26 characters that sort by time; those of one process never fall. Any thread."""
    return _clock.next()


def new_voice_id() -> str:
    """`voice_` and a ULID."""
    return f"voice_{new_ulid()}"


def new_consent_id() -> str:
    """`cons_` and a ULID."""
    return f"cons_{new_ulid()}"


def is_id(text: str, prefix: str) -> bool:
    """Whether this is an id of ours, exactly as we write them. Such a text is a safe file name."""
    return text.startswith(f"{prefix}_") and _ULID.fullmatch(text, len(prefix) + 1) is not None


def id_time_ms(some_id: str) -> int:
    """When an id was made, ms since 1970."""
    number = 0
    for char in some_id[-26:]:
        number = number << 5 | _ALPHABET.index(char)
    return number >> _RANDOM_BITS


def check_name(name: str) -> str:
    """A name as it is kept: NFC, with single spaces and none around it.

    Raises:
        BadName: empty, too long, unreadable, or to be taken for a path or an id.
    """
    # Before normalisation, whose time grows with the square of a run of combining marks.
    if len(name) > 4 * NAME_CHARS:
        raise BadName(f"a name has at most {NAME_CHARS} characters; this one has {len(name)}")
    name = unicodedata.normalize("NFC", name)
    for char in name:
        if reason := _UNREADABLE.get(unicodedata.category(char)):
            raise BadName(f"a name cannot have {reason} (U+{ord(char):04X})")
        if char in _BLANK:
            raise BadName(f"a name cannot have characters that show as nothing (U+{ord(char):04X})")
    name = " ".join(name.split())
    if not name:
        raise BadName("a name cannot be empty")
    if len(name) > NAME_CHARS:
        raise BadName(f"a name has at most {NAME_CHARS} characters; this one has {len(name)}")
    if "/" in name or "\\" in name:
        raise BadName("a name cannot have slashes")
    if not name.strip(". "):
        raise BadName("a name cannot be only dots")
    if _ANY_ID.fullmatch(name):
        raise BadName("a name cannot look like an id")
    return name


def name_key(name: str) -> str:
    """What two names have in common that a person would take for the same."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def check_language(tag: str) -> str:
    """A tag shaped like BCP 47.

    Raises:
        BadLanguage: it is not.
    """
    if not _LANGUAGE.fullmatch(tag):
        raise BadLanguage(f"{tag[:40]!r} is not a language tag such as 'en' or 'pt-BR'")
    return tag


def check_text(text: str, param: str) -> str:
    """A text about a voice.

    Args:
        text: Of any script and of many lines.
        param: The wire's field that it came in.
    Raises:
        BadText: too long, or not to be written as UTF-8.
    """
    if len(text) > TEXT_CHARS:
        raise BadText(f"{param} has at most {TEXT_CHARS} characters; this has {len(text)}", param)
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise BadText(f"{param} has lone surrogates", param)
    return text
