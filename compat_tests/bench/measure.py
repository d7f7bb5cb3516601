"""Clocks and counters: what a client sees, and what the kernel says of a process."""

import asyncio
import contextlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from compat_tests.wire import speech_request


class Timed(NamedTuple):
    """One answer and when it came, in seconds since its request was sent."""

    body: bytes
    first_byte_s: float
    total_s: float
    arrivals: tuple[tuple[float, int], ...] = ()
    """Of a streamed answer: when each piece came, and its bytes."""

    def underrun_s(self, bytes_per_s: int) -> float:
        """Silence that a player hears which starts at the first byte."""
        played_until_s = self.first_byte_s
        silence_s = 0.0
        for arrived_s, size in self.arrivals:
            late_s = max(0.0, arrived_s - played_until_s)
            silence_s += late_s
            played_until_s += late_s + size / bytes_per_s
        return silence_s


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all are not above."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def cpu_s(pid: int) -> float:
    """Processor time that the process itself has used, user and system: not its children's."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int, line: str = "VmRSS") -> float:
    """Memory of the process that is in RAM, MiB; `VmHWM` is the most that ever was."""
    status = Path(f"/proc/{pid}/status").read_text()
    (value,) = (row for row in status.splitlines() if row.startswith(f"{line}:"))
    return int(value.split()[1]) / 1024


class Caller:
    """Calls one after the other over one kept connection."""

    def __init__(self, base_url: str) -> None:
        self._connection = HTTPConnection(urlsplit(base_url).netloc, timeout=60)
        self._connection.connect()

    def speak(self, request: Mapping[str, object]) -> Timed:
        """Send a speech request and read its whole answer.

        Raises:
            RuntimeError: the answer is not 200.
        """
        body = json.dumps(request)
        began = time.perf_counter()
        self._connection.request(
            "POST", "/v1/audio/speech", body, {"content-type": "application/json"}
        )
        answer = self._connection.getresponse()
        if answer.status != HTTPStatus.OK:
            raise RuntimeError(f"{answer.status}: {answer.read().decode()}")
        first = answer.read(1)
        first_byte_s = time.perf_counter() - began
        rest = answer.read()
        return Timed(first + rest, first_byte_s, time.perf_counter() - began)

    def close(self) -> None:
        self._connection.close()


async def speak_at_once(base_url: str, request: Mapping[str, object], streams: int) -> list[Timed]:
    """Send the same request many times at the same moment, each over its own connection.

    Bare sockets, since client and server share the processor. Times count from the common start.

    Raises:
        RuntimeError: an answer is not 200.
        EOFError: a body was cut short.
    """
    url = urlsplit(base_url)
    sent = speech_request(base_url, request)
    began = time.perf_counter()

    async def one() -> Timed:
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        with contextlib.closing(writer):
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            if head.split()[1] != b"200":
                raise RuntimeError(head.decode("latin-1"))
            pieces = []
            while size := int(await reader.readuntil(b"\r\n"), 16):
                piece = await reader.readexactly(size + len(b"\r\n"))
                pieces.append((time.perf_counter() - began, piece[:size]))
        return Timed(
            body=b"".join(piece for _, piece in pieces),
            first_byte_s=pieces[0][0],
            total_s=time.perf_counter() - began,
            arrivals=tuple((arrived_s, len(piece)) for arrived_s, piece in pieces),
        )

    return list(await asyncio.gather(*(one() for _ in range(streams))))
