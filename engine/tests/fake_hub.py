"""A hub on the loopback interface that can do what a real one, or the way to it, does badly."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123abc"


def empty_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let models be kept in this folder, and no real hub be reached."""
    for variable in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(folder / variable))
    for variable in ("HF_HOME", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "*")
    return folder


def unwatched(done: int, total: int) -> None:
    """Progress that nobody looks at; it is sane all the same."""
    assert 0 <= done <= total


class FakeHub(ThreadingHTTPServer):
    """One repository or more. Files are sent from another path, as the hub sends large ones.

    Attributes:
        files: Content by name, of the first repository.
        others: The same of each further one; no name twice.
        cut_after: Bytes of a file after which each connection is lost; None: never.
        honours_range: False sends a file from its start whatever is asked for.
        damages: Whether large files arrive changed.
        requests: (path, headers) of each.
    """

    def __init__(self, repository: str, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repository = repository
        self.files = files
        self.others: dict[str, dict[str, bytes]] = {}
        self.cut_after: int | None = None
        self.honours_range = True
        self.damages = False
        self.requests: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def repositories(self) -> dict[str, dict[str, bytes]]:
        return {self.repository: self.files, **self.others}

    def ranges(self) -> list[str]:
        """The Range headers of the requests that had one and reached a file."""
        return [
            headers["Range"]
            for path, headers in self.requests
            if "Range" in headers and path.startswith("/storage/")
        ]


@contextmanager
def running_hub(repository: str, files: dict[str, bytes]) -> Iterator[FakeHub]:
    with FakeHub(repository, files) as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_GET(self) -> None:
        hub = self.server
        hub.requests.append((self.path, dict(self.headers)))
        for repository, files in hub.repositories.items():
            if self.path == f"/api/models/{repository}?blobs=true":
                self._send(200, json.dumps(_listing(files)).encode())
                return
            if self.path.startswith(resolved := f"/{repository}/resolve/{COMMIT}/"):
                self.send_response(302)
                self.send_header("Location", "/storage/" + self.path.removeprefix(resolved))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        if self.path.startswith("/storage/"):
            self._send_file(hub, self.path.removeprefix("/storage/"))
        else:
            self._send(404, b"{}")

    def _send_file(self, hub: FakeHub, name: str) -> None:
        (content,) = (files[name] for files in hub.repositories.values() if name in files)
        if hub.damages and _is_large(name):
            content = content[::-1]
        asked = self.headers.get("Range")
        if asked and hub.honours_range:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            self._send(206, content[start:], hub.cut_after)
        else:
            self._send(200, content, hub.cut_after)

    def _send(self, status: int, body: bytes, cut_after: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut_after])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
        """Quiet."""


def _is_large(name: str) -> bool:
    return name.endswith((".bin", ".safetensors", ".pt", ".onnx"))


def _listing(files: dict[str, bytes]) -> dict[str, object]:
    """What the hub says of a repository; more than is looked at."""
    siblings: list[dict[str, object]] = []
    for name, content in files.items():
        blob = b"blob %d\0" % len(content) + content
        sibling: dict[str, object] = {
            "rfilename": name,
            "size": len(content),
            "blobId": hashlib.sha1(blob, usedforsecurity=False).hexdigest(),
        }
        if _is_large(name):
            sha256 = hashlib.sha256(content).hexdigest()
            sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
        siblings.append(sibling)
    return {"id": "somebody/something", "sha": COMMIT, "siblings": siblings}
