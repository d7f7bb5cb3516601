"""The page at the root, and the files that it is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from litestar import Request, Response, route
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from msgspec import Struct

from server import VERSION
from server.auth import OPEN
from server.routes import GET

STATIC: Final = Path(__file__).parents[1] / "static"

_PAGE = "index.html"

_MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

# 'self' for workers is what the recorder's audio worklet needs; blobs are audio made in the page.
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; worker-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class About(Struct, frozen=True):
    name: str
    version: str


class StaticFile(Struct, frozen=True):
    """A file of the page as it is sent."""

    content: bytes
    media_type: str
    etag: str


@route("/", http_method=GET, opt=OPEN)
async def get_root(request: Request[Any, Any, Any]) -> Response[Any]:
    """The page for who would rather have HTML, as browsers would; `get_about` for all others."""
    vary = {"vary": "accept"}
    if request.accept.best_match(["application/json", "text/html"]) != "text/html":
        return Response(About("rhapsode", VERSION), headers=vary)
    return _answer(request, static_files()[_PAGE], vary)


@route("/v1", http_method=GET, opt=OPEN)
async def get_about() -> About:
    """Some clients open a connection here before they need it."""
    return About("rhapsode", VERSION)


@route("/static/{path:path}", http_method=GET, opt=OPEN)
async def get_static(request: Request[Any, Any, Any], path: FromPath[str]) -> Response[Any]:
    if (file := static_files().get(path.removeprefix("/"))) is None:
        raise NotFoundException
    return _answer(request, file, {})


@cache
def static_files() -> Mapping[str, StaticFile]:
    """All of them, by path below `static`: nothing that a URL says reaches the file system."""
    return MappingProxyType(
        {
            path.relative_to(STATIC).as_posix(): _read(path)
            for path in sorted(STATIC.rglob("*"))
            if path.suffix in _MEDIA_TYPES
        }
    )


def _read(path: Path) -> StaticFile:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:32]
    return StaticFile(content, _MEDIA_TYPES[path.suffix], f'"{digest}"')


def _answer(
    request: Request[Any, Any, Any], file: StaticFile, more: Mapping[str, str]
) -> Response[bytes]:
    """The file, or 304 to who has it already."""
    headers = {
        "etag": file.etag,
        # Kept, but asked about each time: a new version of the server is a new page at once.
        "cache-control": "no-cache",
        "content-security-policy": _POLICY,
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        **more,
    }
    known = {tag.strip() for tag in request.headers.get("if-none-match", "").split(",")}
    # A proxy that compresses makes a strong tag weak.
    if known & {file.etag, f"W/{file.etag}"}:
        return Response(b"", status_code=304, headers=headers, media_type=file.media_type)
    return Response(file.content, headers=headers, media_type=file.media_type)
