"""The folders that tools may read and write; nothing outside them is touched.

Everything here blocks, for no longer than a local disk takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex

from server.errors import ApiError
from server.settings import SettingsError


class Folders:
    """Paths that a client names, held within the allowed folders.

    Args:
        paths: The folders; relative names are of the first. None: no file may be named.
    Raises:
        SettingsError: one is no folder.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._roots = tuple(Path(path).expanduser().resolve() for path in paths)
        for root, path in zip(self._roots, paths, strict=True):
            if not root.is_dir():
                raise SettingsError(f"bad setting: mcp.folders: {path} is not a folder")

    def __bool__(self) -> bool:
        return bool(self._roots)

    def to_read(self, name: str) -> Path:
        """A file that is there.

        Raises:
            ApiError: 400, it is not there, or not within the folders.
        """
        path = self._within(name)
        if not path.is_file():
            raise _refused(f"{name!r} is not a file")
        return path

    def to_write(self, name: str, *, overwrite: bool) -> Path:
        """A file to be written, in a folder that is there.

        Raises:
            ApiError: 400, it may not be written.
        """
        path = self._within(name)
        if not path.parent.is_dir():
            raise _refused(f"the folder of {name!r} does not exist")
        if path.exists() and not (overwrite and path.is_file()):
            raise _exists(name)
        return path

    def _within(self, name: str) -> Path:
        if not self._roots:
            raise _refused("files are off here: set mcp.folders, or send and get the sound itself")
        try:
            path = (self._roots[0] / name).resolve()  # follows links, those that dangle too
        except (ValueError, RuntimeError, OSError) as exc:  # a null byte; a loop of links
            raise _refused(f"{name!r} is not a path") from exc
        if not any(path.is_relative_to(root) for root in self._roots):
            raise _refused(f"{name!r} is outside the allowed folders")
        return path


def write_whole(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Write a file, or leave what was there as it was.

    Args:
        path: As `Folders.to_write` gave it.
        data: All of it.
        overwrite: Replace a file.
    Raises:
        ApiError: 400, there is one by now, and it may not be replaced.
        OSError: it could not be written.
    """
    part = path.with_name(f".{path.name}.{token_hex(4)}") if overwrite else path
    try:
        file = part.open("xb")  # never through a link that came meanwhile
    except FileExistsError as exc:
        raise _exists(path.name) from exc
    try:
        with file:
            file.write(data)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _exists(name: str) -> ApiError:
    message = f"path: {name!r} exists: name another file, or set overwrite"
    return ApiError(400, message, param="path", code="file_exists")


def _refused(reason: str) -> ApiError:
    return ApiError(400, f"path: {reason}", param="path", code="invalid_path")
