"""HTTP/1.1 by hand, for what a client library hides: chunk borders and half-sent requests."""

import json
import socket
from collections.abc import Iterator, Mapping
from typing import BinaryIO
from urllib.parse import urlsplit

TIMEOUT_S = 10.0
TRANSCRIPTIONS = "/v1/audio/transcriptions"
FORM_TYPE = "multipart/form-data; boundary=b"


def connect(base_url: str) -> socket.socket:
    """A connection to the server; the caller closes it."""
    url = urlsplit(base_url)
    return socket.create_connection((url.hostname, url.port), TIMEOUT_S)


def speech_request(base_url: str, body: Mapping[str, object]) -> bytes:
    """The bytes of a speech request."""
    data = json.dumps(body).encode()
    head = (
        "POST /v1/audio/speech HTTP/1.1\r\n"
        f"host: {urlsplit(base_url).netloc}\r\n"
        "authorization: Bearer sk-test\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def upload_head(base_url: str, length: int | None) -> bytes:
    """The head of a form, whose boundary is `b`, to transcribe; chunked if it has no length."""
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    head = (
        f"POST {TRANSCRIPTIONS} HTTP/1.1\r\n"
        f"host: {urlsplit(base_url).netloc}\r\n"
        "authorization: Bearer sk-test\r\n"
        f"content-type: {FORM_TYPE}\r\n"
        f"{size}\r\n\r\n"
    )
    return head.encode()


def form(file: bytes, **fields: str) -> bytes:
    """A form with a file and other fields; `model` is one of them."""
    parts = "".join(
        f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    parts += '--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return parts.encode() + file + b"\r\n--b--\r\n"


def upload(base_url: str, file: bytes) -> bytes:
    """The bytes of a request to transcribe a file."""
    body = form(file, model="whisper-1")
    return upload_head(base_url, len(body)) + body


def read_head(stream: BinaryIO) -> tuple[int, dict[str, str]]:
    """Status and headers of a response; the stream is at its body then."""
    status = int(stream.readline().split()[1])
    headers = {}
    while (line := stream.readline()) != b"\r\n":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return status, headers


def read_chunks(stream: BinaryIO) -> Iterator[bytes]:
    """The chunks of a chunked body, cut where the server cut them.

    Raises:
        EOFError: the body ended before its last chunk.
    """
    while True:
        size_line = stream.readline()
        if not size_line:
            raise EOFError("the connection ended inside a body")
        chunk = stream.read(int(size_line, 16))
        stream.readline()
        if not chunk:
            return
        yield chunk
