"""Which container a file is, by its first bytes: names, types and FFmpeg's guess are not asked.

FFmpeg is only ever told one of the containers below. None of them can refer to another file,
unlike the playlists and lists of files (HLS, DASH, concat, image sequences) that it would guess.
"""

from __future__ import annotations

from typing import BinaryIO

_HEAD_BYTES = 16
_MAX_TAGS = 4
# Boxes with which an MP4 or QuickTime file may begin.
_MP4_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})


def sniff(file: BinaryIO) -> str | None:
    """FFmpeg's name of the container, None for anything unknown; leaves the file at its start.

    ID3 tags are looked behind: they stand before FLAC and AAC as well as before MP3, which is
    what a tag speaks for if only padding follows.
    """
    offset = 0
    for _ in range(_MAX_TAGS):
        file.seek(offset)
        head = file.read(_HEAD_BYTES)
        if head[:3] != b"ID3" or len(head) < 10:
            break
        offset += 10 + _syncsafe(head[6:10])
    file.seek(0)
    return _by_magic(head) or ("mp3" if offset else None)


def _by_magic(head: bytes) -> str | None:
    if head[:4] in {b"RIFF", b"RF64", b"BW64"}:
        return {b"WAVE": "wav", b"AVI ": "avi"}.get(head[8:12])
    if head[4:8] in _MP4_BOXES:
        return "mp4"
    magic = {
        b"fLaC": "flac",
        b"OggS": "ogg",
        b"\x1a\x45\xdf\xa3": "matroska",
        b"\x00\x00\x01\xba": "mpeg",
    }
    return magic.get(head[:4]) or _by_mpeg_sync(head)


def _by_mpeg_sync(head: bytes) -> str | None:
    """MPEG audio frames begin with eleven ones; then version, layer and more."""
    if len(head) < 2 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 0b11, head[1] >> 1 & 0b11
    if version == 0b01:
        return None
    if layer == 0:
        return "aac" if version >= 0b10 else None
    return "mp3"


def _syncsafe(digits: bytes) -> int:
    """An ID3 size: seven bits a byte."""
    size = 0
    for digit in digits:
        size = size << 7 | digit & 0x7F
    return size
