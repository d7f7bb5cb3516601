"""One request of a load, and all that came of it: nothing raises, a failure is a figure."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection

import msgspec
from msgspec import Struct

from engine.types import Task
from server.bench.measure import Address, BenchError, Fields, Stream

TIMEOUT_S = 120.0
"""Of one request."""
UNFINISHED = "unfinished"
"""The code of an answer that nobody has waited for to the end."""
_BOUNDARY = "rhapsode-bench"
_ERROR_BYTES = 1 << 16


class Target(Struct, frozen=True):
    """The server that is loaded."""

    address: Address
    key: str | None = None
    """An API key to show."""
    pid: int | None = None
    """Of its process, if it is on this host."""

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"} if self.key else {}


class Request(Struct, frozen=True):
    """What clients ask for; the same bytes for each of them."""

    task: Task
    data: bytes
    """Head and body."""


@dataclass
class Answer:
    """What one client got; times by `time.perf_counter`."""

    task: Task
    stream: Stream
    """Its `sent_s` is when the request was due: a bench that is late itself hides no wait."""
    status: int | None = None
    code: str | None = UNFINISHED
    """Of a refusal, the server's; or `no_connection`, `broken_off`, `timeout`, `empty`; None: the
    answer is whole."""
    sent_s: float | None = None
    ended_s: float | None = None
    digest: str = ""
    """Of the whole body."""

    @property
    def is_whole(self) -> bool:
        return self.code is None

    @property
    def is_refused(self) -> bool:
        """Whether the server has said that it is full."""
        return self.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)

    @property
    def has_failed(self) -> bool:
        """Whether it ended in another way than whole or by a refusal."""
        return self.code not in (None, UNFINISHED) and not self.is_refused

    @property
    def outcome(self) -> str:
        """Status and code."""
        return " ".join(str(each) for each in (self.status, self.code) if each is not None)


class _Detail(Struct, frozen=True):
    code: str | None


class _Envelope(Struct, frozen=True):
    error: _Detail


def speech_request(target: Target, fields: Fields) -> Request:
    """For PCM, streamed."""
    body = json.dumps({**fields, "response_format": "pcm"}).encode()
    return Request("speech", _head(target, "speech", "application/json", len(body)) + body)


def transcription_request(target: Target, file: bytes) -> Request:
    """For the text of a file, whole."""
    fields = "".join(
        f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (("model", "whisper-1"), ("response_format", "text"))
    )
    part = f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body = (fields + part).encode() + file + f"\r\n--{_BOUNDARY}--\r\n".encode()
    media_type = f"multipart/form-data; boundary={_BOUNDARY}"
    return Request("transcription", _head(target, "transcriptions", media_type, len(body)) + body)


def fetch(target: Target, method: str, path: str, body: bytes = b"") -> bytes:
    """The body of another request.

    Args:
        target: Whom to ask.
        method: In capitals.
        path: With a leading slash.
        body: JSON.
    Raises:
        BenchError: the server answered neither 200 nor 503.
    """
    address = target.address
    with closing(HTTPConnection(address.host, address.port, timeout=TIMEOUT_S)) as connection:
        headers = {**target.headers, "content-type": "application/json"}
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        content = answer.read()
    if answer.status not in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE):
        raise BenchError(f"{path}: the server answered {answer.status}")
    return content


async def ask(target: Target, request: Request, answer: Answer) -> None:
    """Send it and read all that comes; the answer is filled meanwhile."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await _exchange(target, request, answer)
    except TimeoutError:
        answer.code = "timeout"
    except (asyncio.IncompleteReadError, ConnectionError):
        answer.code = "no_connection" if answer.sent_s is None else "broken_off"
    except OSError:
        # No descriptor or no port is left, or a name cannot be resolved.
        answer.code = "no_connection"


async def _exchange(target: Target, request: Request, answer: Answer) -> None:
    reader, writer = await asyncio.open_connection(target.address.host, target.address.port)
    try:
        answer.sent_s = time.perf_counter()
        writer.write(request.data)
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split()[1])
        if status != HTTPStatus.OK:
            code = _code_of(await reader.read(_ERROR_BYTES))
            answer.status, answer.code = status, code
            return
        answer.status = status
        digest = hashlib.sha256()
        async with aclosing(_body(reader, head)) as pieces:
            async for piece in pieces:
                answer.stream.arrivals.append((time.perf_counter(), len(piece)))
                digest.update(piece)
        answer.code = None if answer.stream.arrivals else "empty"
        answer.stream.is_whole = answer.is_whole
        answer.digest = digest.hexdigest()
        answer.ended_s = time.perf_counter()
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _body(reader: asyncio.StreamReader, head: bytes) -> AsyncGenerator[bytes, None]:
    """In the server's pieces, if it streams."""
    _, has_length, length = head.lower().partition(b"content-length:")
    if has_length:
        yield await reader.readexactly(int(length.partition(b"\r\n")[0]))
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + len(b"\r\n")))[:size]
    await reader.readuntil(b"\r\n")


def _code_of(body: bytes) -> str | None:
    """The server's word for an error, if the body is an error of its."""
    try:
        return msgspec.json.decode(body, type=_Envelope).error.code or "error"
    except msgspec.DecodeError:
        return "error"


def _head(target: Target, path: str, media_type: str, length: int) -> bytes:
    lines = {
        "host": f"{target.address.host}:{target.address.port}",
        **target.headers,
        "content-type": media_type,
        "content-length": str(length),
        # An error's body is read to its end.
        "connection": "close",
    }
    fields = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST /v1/audio/{path} HTTP/1.1\r\n{fields}\r\n".encode()
