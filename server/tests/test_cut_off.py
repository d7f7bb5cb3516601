"""A body that is cut off is nobody's fault but its sender's."""

import asyncio
import logging
from typing import Any

import pytest

from server.app import create_app
from server.catalog import Engines
from server.settings import Settings
from server.tests.fakes import FakeEngine

pytestmark = pytest.mark.anyio

FORM = b"multipart/form-data; boundary=B"


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/v1/audio/speech", b"application/json"),
        ("/v1/audio/voices", FORM),
        ("/v1/audio/transcriptions", FORM),
    ],
)
async def test_cut_off_body_is_no_error_of_the_server(
    path: str, content_type: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = create_app(Settings(), Engines({"espeak-ng": FakeEngine()}))
    scope: Any = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"content-type", content_type), (b"content-length", b"1000")],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("test", 80),
        "client": ("test", 1),
        "root_path": "",
        "state": {},
    }
    coming: list[Any] = [
        {"type": "http.request", "body": b'--B\r\n{"mod', "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return coming.pop(0) if coming else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["status"] == 499
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
