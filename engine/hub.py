"""Fetches files of a repository on the Hugging Face hub: resumable, checked, all or nothing.

huggingface_hub does not do it: it checks no digests, tries a silent hub again and again, and has
changed its HTTP client from one major version to the next. Where a repository may lie on this
machine is told here too. Light: it may be imported where no model runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing, contextmanager
from fnmatch import fnmatchcase
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import msgspec
from msgspec import Struct

from engine.errors import LoadFailed

logger = logging.getLogger(__name__)

_ENDPOINT = "https://huggingface.co"

_TIMEOUT_S = 5.0
"""Without a connection, an answer, or the next bytes of one."""

_CHUNK_BYTES = 1 << 20

OnProgress = Callable[[int, int], None]
"""Takes the bytes that are there, and the bytes in all."""


class RemoteFile(Struct, frozen=True):
    """A file of a repository."""

    name: str
    """With its folders, "/" between them."""
    size: int
    """Bytes."""
    digest: str
    """Hex; SHA-256 of a large file's content, SHA-1 of any other's git blob."""
    is_large: bool


class Snapshot(Struct, frozen=True):
    """A repository at one commit."""

    repository: str
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class _LargeFile(Struct, frozen=True):
    sha256: str


class _Sibling(Struct, frozen=True, rename="camel"):
    rfilename: str
    size: int
    blob_id: str
    lfs: _LargeFile | None = None


class _ModelInfo(Struct, frozen=True):
    sha: str
    siblings: tuple[_Sibling, ...]


def models_folder() -> Path:
    """Where models are fetched to: in the user's data folder."""
    return _base_folder("XDG_DATA_HOME", "~/.local/share") / "rhapsode" / "models"


def folder_of(repository: str) -> Path:
    """Where a repository's files are fetched to, below `models_folder`."""
    return models_folder() / _flat(repository)


def folders(repository: str) -> Iterator[Path]:
    """Where a repository's files may lie: our own folder, then the hub's cache, newest first."""
    yield folder_of(repository)
    snapshots = (_hub_cache() / f"models--{_flat(repository)}").glob("snapshots/*")
    yield from sorted(snapshots, key=lambda folder: folder.stat().st_mtime, reverse=True)


def snapshot(repository: str, names: Collection[str]) -> Snapshot:
    """The files of these names in a repository's newest commit, as far as it has them.

    Args:
        repository: "owner/name".
        names: From its top, "/" between folders; "*" stands for anything.
    Raises:
        LoadFailed: there is no such repository, or no answer.
    """
    with _open(repository, f"api/models/{repository}?blobs=true") as response:
        body = b"".join(_chunks(response))
    try:
        info = msgspec.json.decode(body, type=_ModelInfo)
    except msgspec.DecodeError as exc:
        raise LoadFailed(f"{_endpoint()} does not answer as the hub does: {exc}") from exc
    files = tuple(
        RemoteFile(
            name=each.rfilename,
            size=each.size,
            digest=each.lfs.sha256 if each.lfs else each.blob_id,
            is_large=each.lfs is not None,
        )
        for each in info.siblings
        if _is_wanted(each.rfilename, names)
    )
    return Snapshot(repository, info.sha, files)


def fetch(source: Snapshot, folder: Path, on_progress: OnProgress) -> None:
    """Make a folder of the snapshot's files; it appears when all are there and checked.

    What an earlier attempt got of the same commit is kept. One process at a time fetches into a
    parent folder; others wait.

    Raises:
        LoadFailed: the connection is lost, a file arrives damaged, or it cannot be written.
    """
    part = folder.with_name(f".{folder.name}@{source.commit}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent):
            if folder.is_dir():
                return
            for other in folder.parent.glob(f".{folder.name}@*"):
                if other != part:
                    shutil.rmtree(other)
            part.mkdir(exist_ok=True)
            _fetch_files(source, part, on_progress)
            part.rename(folder)
    except OSError as exc:
        raise LoadFailed(f"cannot write to {folder.parent}: {exc.strerror or exc}") from exc


def _fetch_files(source: Snapshot, part: Path, on_progress: OnProgress) -> None:
    done = 0
    for file in source.files:
        path = part / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Closed at once if on_progress raises: its file must not be written to later.
        with closing(_fetch_file(source, file, path)) as sizes:
            for size in sizes:
                on_progress(done + size, source.size)
        if _digest(file, path) != file.digest:
            path.unlink()
            raise LoadFailed(f"{file.name} of {source.repository} arrived damaged: try again")
        done += file.size


def _fetch_file(source: Snapshot, file: RemoteFile, path: Path) -> Generator[int, None, None]:
    """Yields the bytes that are there, until they are all."""
    url = f"{source.repository}/resolve/{source.commit}/{file.name}"
    with path.open("ab") as output:
        size = output.tell()
        yield size
        while size < file.size:
            before = size
            with _open(source.repository, url, offset=size) as response:
                if size and response.status != 206:  # it sends all of it again
                    output.truncate(0)
                    size = 0
                for chunk in _chunks(response):
                    output.write(chunk)
                    size += len(chunk)
                    yield size
            if size <= before:
                raise LoadFailed(f"{_endpoint()} stopped sending {file.name}: try again to go on")


def _digest(file: RemoteFile, path: Path) -> str:
    blob_header = b"blob %d\0" % file.size
    with path.open("rb") as content:
        return hashlib.file_digest(
            content,
            hashlib.sha256
            if file.is_large
            else lambda: hashlib.sha1(blob_header, usedforsecurity=False),
        ).hexdigest()


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    """The body as it comes, to its end or to that of the connection: the size tells which."""
    try:
        while chunk := response.read1(_CHUNK_BYTES):
            yield chunk
    except (OSError, HTTPException) as exc:
        logger.warning("event=download_cut url=%s reason=%s", response.url, exc)


def _open(repository: str, path: str, offset: int = 0) -> HTTPResponse:
    request = Request(f"{_endpoint()}/{path}", headers={"User-Agent": "rhapsode"})  # noqa: S310
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    if token := os.environ.get("HF_TOKEN"):
        # The hub sends us on to a storage host, which is not to see it.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        response: HTTPResponse = urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
    except HTTPError as exc:
        exc.close()
        if exc.code in {401, 403, 404}:
            raise LoadFailed(f"the hub has no public model {repository}") from exc
        raise LoadFailed(f"{_endpoint()} answered {exc.code} for {repository}") from exc
    except (OSError, HTTPException) as exc:
        reason = exc.reason if isinstance(exc, URLError) else exc
        raise LoadFailed(f"cannot reach {_endpoint()}: {reason}") from exc
    return response


def _is_wanted(name: str, patterns: Collection[str]) -> bool:
    """It fits one of the patterns, and leads nowhere outside the folder."""
    if ".." in PurePosixPath(name).parts:
        return False
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _flat(repository: str) -> str:
    return repository.replace("/", "--")


def _hub_cache() -> Path:
    home = _base_folder("XDG_CACHE_HOME", "~/.cache") / "huggingface"
    return _base_folder("HF_HUB_CACHE", str(_base_folder("HF_HOME", str(home)) / "hub"))


def _base_folder(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or default).expanduser()


def _endpoint() -> str:
    endpoint = os.environ.get("HF_ENDPOINT", _ENDPOINT).rstrip("/")
    if not endpoint.startswith(("https://", "http://")):
        raise LoadFailed(f"HF_ENDPOINT is not the address of a hub: {endpoint}")
    return endpoint


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
