"""Uploads decoded in processes that can die. Event loop only.

One process a recording: a file that crashes FFmpeg, or takes it over, meets nobody else's sound,
and a recording that its engine reads slowly holds up no other.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import BinaryIO

import msgspec
import numpy as np

from engine.errors import Overloaded, WorkerUnavailable
from engine.types import Samples
from server.audio.decode import DecodeError, DecodeLimits
from server.audio.decoder_process import AUDIO, END, HEADER, REFUSED, UNAVAILABLE, Job

logger = logging.getLogger(__name__)

_ENV = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "RHAPSODE_LOG_FORMAT")
"""All that the processes see of the server's environment: how Python finds its modules."""

_COPIED_BYTES = 1 << 20
"""A file that may lie in memory only, and is faster copied than written to disk."""

_FRAME_BYTES = 2 << 20
"""More than a frame ever has."""

_LEAVE_S = 1.0

_BROKEN = "the file cannot be decoded: it is damaged, or takes too much time or memory"


class Decoders:
    """Starts with `start`, or else with the first recording; ends with `stop`.

    Args:
        most: Recordings that are open at once.
        stall_s: How long a decoder may give nothing while somebody waits for it.
        memory_bytes: Heap of one decoder.
        log_level: Theirs.
    """

    def __init__(
        self,
        most: int,
        *,
        stall_s: float = 30.0,
        memory_bytes: int = 256 << 20,
        log_level: str = "INFO",
    ) -> None:
        self._most = most
        self._stall_s = stall_s
        self._memory_bytes = memory_bytes
        self._log_level = log_level
        self._open = 0
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Decoders:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def pid(self) -> int | None:
        """Of their parent, while it lives."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Begin to start their parent, unless it lives. Recordings can be sent to it at once."""
        if self.pid is not None:
            return
        if self._control is not None:
            logger.warning("event=decoders_restarted")
            self._control.close()
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        environ = {name: os.environ[name] for name in _ENV if name in os.environ}
        with theirs:
            self._process = subprocess.Popen(
                (
                    *(sys.executable, "-m", "server.audio.decoder_process"),
                    *("--fd", str(theirs.fileno()), "--log-level", self._log_level),
                ),
                # NumPy's threads: a process that forks has none.
                env={**environ, "OPENBLAS_NUM_THREADS": "1"},
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
            )

    async def stop(self) -> None:
        """End all of them; recordings that are open fail."""
        process, self._process = self._process, None
        if self._control is not None:
            self._control.close()
            self._control = None
        if process is not None:
            await asyncio.to_thread(_end, process)

    async def decode(
        self, file: BinaryIO, sample_rate: int | None, limits: DecodeLimits
    ) -> AsyncGenerator[tuple[Samples, int], None]:
        """Blocks of a second at most, float32 mono [T], and their rate, Hz.

        The decoder is some seconds ahead and then waits. It ends when the generator is closed.

        Args:
            file: Seekable; need not stay open once the first block is here.
            sample_rate: Hz; None is the recording's own.
            limits: Beyond which it is refused.
        Raises:
            DecodeError: not audio, broken, beyond the limits, or the decoder died of it.
            Overloaded: too many recordings are open.
            WorkerUnavailable: no decoder could be started, or all were lost.
        """
        if self._open >= self._most:
            raise Overloaded("too many recordings are being read", retry_after_s=1.0)
        self._open += 1
        try:
            with await self._begin(file, Job(sample_rate, limits, self._memory_bytes)) as sock:
                duration_s = 0.0
                while (block := await self._next(sock)) is not None:
                    duration_s += len(block[0]) / _checked_rate(block[1], sample_rate, limits)
                    # Of a decoder that was taken over; by itself it keeps the limit.
                    if duration_s > limits.max_duration_s + 1:
                        raise DecodeError(_BROKEN)
                    yield block
        finally:
            self._open -= 1

    async def decode_clip(self, file: BinaryIO, limits: DecodeLimits) -> tuple[Samples, int]:
        """A short recording in one piece, at its own rate; see `decode`."""
        async with aclosing(self.decode(file, None, limits)) as blocks:
            parts = [part async for part in blocks]
        return np.concatenate([samples for samples, _ in parts]), parts[0][1]

    async def _begin(self, file: BinaryIO, job: Job) -> socket.socket:
        """The socket that its frames come from."""
        with await _lent(file) as lent:
            self.start()
            assert self._control is not None, "just started"
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            with theirs:
                fds = [theirs.fileno(), lent.fileno()]
                try:
                    socket.send_fds(self._control, [msgspec.json.encode(job)], fds)
                except OSError as exc:
                    ours.close()
                    raise _unavailable() from exc
        return ours

    async def _next(self, sock: socket.socket) -> tuple[Samples, int] | None:
        try:
            async with asyncio.timeout(self._stall_s):
                kind, rate, size = HEADER.unpack(await _read(sock, HEADER.size))
                if size > _FRAME_BYTES:
                    raise DecodeError(_BROKEN)
                payload = await _read(sock, size)
        except TimeoutError as exc:
            logger.warning("event=decoder_hung stalled_s=%g", self._stall_s)
            raise DecodeError(_BROKEN) from exc
        except (EOFError, ConnectionError) as exc:
            if self.pid is None:
                raise _unavailable() from exc
            raise DecodeError(_BROKEN) from exc
        if kind == AUDIO and size and size % 4 == 0:
            return _within_bounds(payload), rate
        if kind == REFUSED:
            raise DecodeError(payload.decode(errors="replace"))
        if kind == UNAVAILABLE:
            raise _unavailable()
        if kind != END:
            raise DecodeError(_BROKEN)
        return None


def _unavailable() -> WorkerUnavailable:
    return WorkerUnavailable("recordings cannot be decoded just now", retry_after_s=1.0)


def _checked_rate(rate: int, asked: int | None, limits: DecodeLimits) -> int:
    if rate != asked and (
        asked is not None or not limits.min_sample_rate <= rate <= limits.max_sample_rate
    ):
        raise DecodeError(_BROKEN)
    return rate


def _within_bounds(payload: bytearray) -> Samples:
    samples = np.frombuffer(payload, np.float32)
    # Also False of NaN.
    if not np.abs(samples).max() <= 1.0:
        raise DecodeError(_BROKEN)
    return samples


async def _read(sock: socket.socket, size: int) -> bytearray:
    """Exactly so many bytes.

    Raises:
        EOFError: it ends before.
    """
    loop = asyncio.get_running_loop()
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        count = await loop.sock_recv_into(sock, rest)
        if count == 0:
            raise EOFError
        rest = rest[count:]
    return data


async def _lent(file: BinaryIO) -> BinaryIO:
    """The file for another process, to be closed."""
    lending = asyncio.ensure_future(asyncio.to_thread(_lend, file))
    try:
        return await asyncio.shield(lending)
    except asyncio.CancelledError:
        # The thread still reads the file.
        await asyncio.wait({lending})
        if lending.exception() is None:
            lending.result().close()
        raise


def _lend(file: BinaryIO) -> BinaryIO:
    file.flush()
    if file.seek(0, os.SEEK_END) > _COPIED_BYTES:
        with suppress(io.UnsupportedOperation):
            return _reopened(file.fileno())
    copy = _memory_file()
    file.seek(0)
    shutil.copyfileobj(file, copy, _COPIED_BYTES)
    copy.flush()
    return copy


def _reopened(descriptor: int) -> BinaryIO:
    """The same file: on Linux for reading only, and with a position of its own."""
    is_linux = sys.platform == "linux"
    return open(f"/proc/self/fd/{descriptor}" if is_linux else os.dup(descriptor), "rb")  # noqa: PTH123 - it may have no name


def _memory_file() -> BinaryIO:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("recording"), "w+b")
    return tempfile.TemporaryFile()


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_LEAVE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
