"""A client with a clock, and what is made of its times."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection
from typing import TypeAlias

from msgspec import Struct

PCM_BYTES_PER_S = 48_000
"""Of response_format pcm: 16 bits at 24 kHz."""
_TIMEOUT_S = 600.0
_MESSAGE_BYTES = 500
_REFUSALS = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}

Fields: TypeAlias = Mapping[str, object]
"""Of a speech request."""
Figures: TypeAlias = dict[str, object]
"""Measured values by name; may nest."""


class BenchError(Exception):
    """What is to be measured cannot be; the message is for a person."""


class Address(Struct, frozen=True):
    """Of a server."""

    host: str
    port: int


@dataclass
class Stream:
    """One answer as a client hears it; times by `time.perf_counter`."""

    sent_s: float
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    """When each piece came, and its bytes."""
    is_whole: bool = False

    @property
    def ttfa_s(self) -> float:
        return self.arrivals[0][0] - self.sent_s

    @property
    def wall_s(self) -> float:
        return self.arrivals[-1][0] - self.sent_s

    @property
    def audio_s(self) -> float:
        return sum(size for _, size in self.arrivals) / PCM_BYTES_PER_S

    @property
    def underrun_s(self) -> float:
        """Silence that a player hears which starts at the first byte."""
        played_until_s, silence_s = self.arrivals[0][0], 0.0
        for arrived_s, size in self.arrivals:
            late_s = max(0.0, arrived_s - played_until_s)
            silence_s += late_s
            played_until_s += late_s + size / PCM_BYTES_PER_S
        return silence_s

    @property
    def played_until_s(self) -> float:
        """When such a player has played all that has come."""
        return self.arrivals[0][0] + self.underrun_s + self.audio_s


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all are not above."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def milliseconds(seconds: Sequence[float]) -> Figures:
    """Their percentiles."""
    if not seconds:
        return {"n": 0}
    percents = {f"p{percent}_ms": percentile(seconds, percent) for percent in (50, 95, 99)}
    shown = {**percents, "max_ms": max(seconds)}
    return {"n": len(seconds), **{name: round(1000 * value, 1) for name, value in shown.items()}}


def call(
    address: Address, method: str, path: str, body: bytes = b"", media_type: str = ""
) -> tuple[int, bytes]:
    """Status and body of any other request."""
    with closing(HTTPConnection(address.host, address.port, timeout=_TIMEOUT_S)) as connection:
        headers = {"content-type": media_type} if media_type else {}
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


async def speak(address: Address, fields: Fields) -> Stream:
    """Ask for one clip as PCM and hear all of it.

    Raises:
        BenchError: it was refused, or broke off.
    """
    stream = Stream(time.perf_counter())
    if not await hear(address, fields, stream):
        raise BenchError("the server is full with one stream")
    return stream


async def hear(address: Address, fields: Fields, stream: Stream) -> bool:
    """Ask for one clip as PCM; its pieces go to the stream as they come.

    Returns:
        Whether the server took it; if not, it is full.
    Raises:
        BenchError: it refused for another reason, or broke off.
    """
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(_request(address, fields))
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split()[1])
        if status in _REFUSALS:
            return False
        if status != HTTPStatus.OK:
            raise BenchError(f"the server answered {status}: {await _message(reader)}")
        async with aclosing(_pieces(reader)) as pieces:
            async for size in pieces:
                stream.arrivals.append((time.perf_counter(), size))
        if not stream.arrivals:
            raise BenchError("the server gave no audio")
        stream.is_whole = True
        return True
    except asyncio.IncompleteReadError as exc:
        raise BenchError("the server broke a stream off") from exc
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _message(reader: asyncio.StreamReader) -> str:
    """What an error's body begins with."""
    return (await reader.read(_MESSAGE_BYTES)).decode(errors="replace")


async def _pieces(reader: asyncio.StreamReader) -> AsyncGenerator[int, None]:
    """Bytes of each chunk of a chunked body."""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + len(b"\r\n"))
        yield size


def _request(address: Address, fields: Fields) -> bytes:
    body = json.dumps({**fields, "response_format": "pcm"}).encode()
    head = (
        "POST /v1/audio/speech HTTP/1.1\r\n"
        f"host: {address.host}:{address.port}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
