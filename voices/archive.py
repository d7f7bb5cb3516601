"""A voice as one file: a zip of profile.json, prompt.flac and features/*.

Only its exporter knows who made it, so all of it is checked: names, sizes before and after
inflating, checksums, the digest of the audio.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from voices import flac
from voices.errors import BadArchive, CorruptVoice, TooLarge
from voices.profile import CheckedPrompt, VoiceProfile

DOCUMENT: Final = "profile.json"
RECORDING: Final = "prompt.flac"
_FEATURE = re.compile(r"features/([A-Za-z0-9][A-Za-z0-9._-]{0,127})")
_MAX_FILES = 64
_ENCRYPTED = 0x1
_INFLATED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Unpacked(Struct, frozen=True):
    """A checked archive."""

    profile: VoiceProfile
    prompt: CheckedPrompt
    features: Mapping[str, bytes]


def pack(profile: VoiceProfile, recording: bytes, features: Mapping[str, bytes]) -> bytes:
    """The archive; the same voice gives the same bytes. Its owner is left out.

    Args:
        profile: Of the voice.
        recording: FLAC.
        features: By file name; plain names only.
    """
    document = msgspec.json.format(msgspec.json.encode(replace(profile, owner=None)))
    files = {DOCUMENT: document, RECORDING: recording}
    files |= {f"features/{name}": data for name, data in sorted(features.items())}
    assert all(_FEATURE.fullmatch(f"features/{name}") for name in features)
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


def unpack(data: bytes, max_bytes: int) -> Unpacked:
    """Read and check an archive.

    Args:
        data: A file from anywhere.
        max_bytes: Of all its files, inflated.
    Raises:
        BadArchive: it is not one of ours, or damaged.
        TooLarge: it is more than `max_bytes`.
    """
    files = _files(data, max_bytes)
    if DOCUMENT not in files or RECORDING not in files:
        raise BadArchive(f"an exported voice has {DOCUMENT} and {RECORDING}")
    try:
        profile = msgspec.json.decode(files.pop(DOCUMENT), type=VoiceProfile)
        pcm, sample_rate = flac.decode(files.pop(RECORDING))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, CorruptVoice) as exc:
        raise BadArchive(f"the exported voice is damaged: {exc}") from exc
    if flac.digest(pcm, sample_rate) != profile.sample_digest:
        raise BadArchive("the exported voice is damaged: its audio is not that of its profile")
    prompt = CheckedPrompt(flac.to_samples(pcm), sample_rate, profile.report)
    features = {name.removeprefix("features/"): data for name, data in files.items()}
    return Unpacked(profile, prompt, features)


def _files(data: bytes, max_bytes: int) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries, max_bytes)
            return {entry.filename: _inflated(archive, entry) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as exc:
        raise BadArchive("not a zip file, or a damaged one") from exc


def _inflated(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """The file, whose CRC is compared. No more is inflated than the size that was checked: without
    it, zipfile inflates all that there is before it cuts it off."""
    with archive.open(entry) as file:
        return file.read(entry.file_size)


def _check_entries(entries: list[zipfile.ZipInfo], max_bytes: int) -> None:
    names = [entry.filename for entry in entries]
    if len(names) > _MAX_FILES or len(set(names)) < len(names):
        raise BadArchive("the archive has too many files, or two of one name")
    for entry in entries:
        name = entry.filename
        if name not in (DOCUMENT, RECORDING) and not _FEATURE.fullmatch(name):
            raise BadArchive(f"an exported voice has no file {name[:80]!r}")
        if entry.compress_type not in _INFLATED or entry.flag_bits & _ENCRYPTED:
            raise BadArchive("the archive is encrypted, or packed in an unusual way")
    if sum(entry.file_size for entry in entries) > max_bytes:
        raise TooLarge(f"an exported voice has at most {max_bytes} bytes, unpacked", "file")
