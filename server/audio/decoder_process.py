"""Decodes each recording in a process of its own: `python -m server.audio.decoder_process --fd N`.

This process holds FFmpeg and nothing else: it is not forked from the server, so it has none of its
keys, voices and sockets. For each recording that the server sends it forks a child, which gives up
what it could do harm with, decodes, and ends. A child whose socket the server closes is killed;
when the server is gone they all are.

Control socket: a `Job` in JSON with two descriptors, the child's socket and the file.
Child's socket: frames, each a `HEADER` and its payload. It ends without END if the child died.
"""

from __future__ import annotations

import argparse
import gc
import io
import logging
import os
import selectors
import signal
import socket
import wave
from struct import Struct as Layout
from typing import NoReturn

import msgspec
from msgspec import Struct

from engine.runtime.log import log_as_parent_does
from server.audio.decode import DecodeError, DecodeLimits, decode_with_rate
from server.audio.sandbox import confine

logger = logging.getLogger(__name__)

HEADER = Layout("<cII")
"""Kind, sample rate in Hz, bytes of payload."""
AUDIO = b"a"
"""Float32 mono [T], a second at most."""
REFUSED = b"r"
"""A DecodeError's message in UTF-8."""
UNAVAILABLE = b"u"
"""No child could be started."""
END = b"e"

JOB_BYTES = 4096
"""At most."""

_CPU_S = 30
_SPEED_MIN = 20
"""Seconds of audio that a second of CPU time decodes at the very least."""


class Job(Struct, frozen=True):
    """One recording."""

    sample_rate: int | None
    """Hz, of the blocks; None is the recording's own."""
    limits: DecodeLimits
    memory_bytes: int
    """See `confine`."""


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="python -m server.audio.decoder_process")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--log-level", default="INFO")
    args = parser.parse_args()
    log_as_parent_does(args.log_level)
    # The server decides when this ends: it drains first. Both signals reach the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _warm_up()
    with socket.socket(fileno=args.fd) as control:
        Parent(control).run()


class Parent:
    """Forks children and sees to their end. Single thread: it forks.

    Args:
        control: To the server.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, socket.socket] = {}
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)

    def run(self) -> None:
        """Until the server hangs up."""
        is_open = True
        while is_open:
            for key, _ in self._selector.select():
                if key.fileobj is self._control:
                    is_open = self._take()
                elif key.fileobj is self._wake:
                    self._wake.recv(JOB_BYTES)
                    self._reap()
                elif key.data in self._children:
                    # The server writes nothing there: it has hung up.
                    self._selector.unregister(key.fileobj)
                    os.kill(key.data, signal.SIGKILL)
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def _take(self) -> bool:
        """Start a child for the next recording; False once there will be none."""
        data, descriptors, _, _ = socket.recv_fds(self._control, JOB_BYTES, 2)
        if not data:
            return False
        job = msgspec.json.decode(data, type=Job)
        sock, file = socket.socket(fileno=descriptors[0]), descriptors[1]
        try:
            pid = os.fork()
        except OSError as exc:
            logger.error("event=decoder_not_started reason=%s", exc)  # noqa: TRY400 - says it all
            sock.sendall(HEADER.pack(UNAVAILABLE, 0, 0))
            sock.close()
            os.close(file)
            return True
        if pid == 0:
            self._become_child()
            _decode(job, file, sock)
        os.close(file)
        self._children[pid] = sock
        self._selector.register(sock, selectors.EVENT_READ, pid)
        return True

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            sock = self._children.pop(pid)
            if sock in self._selector.get_map():
                self._selector.unregister(sock)
                if status:
                    code = os.waitstatus_to_exitcode(status)
                    logger.warning("event=decoder_died pid=%d status=%d", pid, code)
            sock.close()

    def _become_child(self) -> None:
        """Nothing of other recordings is left to it."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        for sock in (self._control, self._wake, self._woken, *self._children.values()):
            sock.close()


def _decode(job: Job, file: int, sock: socket.socket) -> NoReturn:
    """The child's life."""
    status = 1
    try:
        confine(_CPU_S + int(job.limits.max_duration_s / _SPEED_MIN), job.memory_bytes)
        _send_audio(job, file, sock)
        status = 0
    except BrokenPipeError:
        status = 0
    except Exception:
        logger.exception("event=decoder_failed")
    finally:
        os._exit(status)


def _send_audio(job: Job, file: int, sock: socket.socket) -> None:
    try:
        with open(file, "rb") as source:
            for block, rate in decode_with_rate(source, job.sample_rate, job.limits):
                for start in range(0, len(block), rate):
                    part = block[start : start + rate].tobytes()
                    sock.sendall(HEADER.pack(AUDIO, rate, len(part)) + part)
        sock.sendall(HEADER.pack(END, 0, 0))
    except DecodeError as exc:
        message = str(exc).encode()
        sock.sendall(HEADER.pack(REFUSED, 0, len(message)) + message)


def _warm_up() -> None:
    """Import what is imported late: a child can open no file."""
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(bytes(1_600))
    for _ in decode_with_rate(sound, 16_000, DecodeLimits()):
        pass
    # What the children share stays shared.
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    main()
