"""What a server is like while others load it: how soon it answers /health, and its memory.

    python -m server.bench.load_probe HOST PORT [PID]

A process of its own: the one that is the crowd has no time to look at a clock. It prints an
empty line when it has begun to look; when its standard input ends it prints all samples as JSON.
"""

from __future__ import annotations

import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import msgspec
from msgspec import Struct

from server.bench.load_client import Target
from server.bench.measure import Address, BenchError, call

_PERIOD_S = 0.05
_MEMORY_EVERY = 10
"""Looks at /health for one at memory."""


class Memory(Struct, frozen=True):
    """Of the server, as the kernel tells it."""

    server_mib: float
    workers_mib: float
    descriptors: int
    """Open ones of the server's process."""


class Sample(Struct, frozen=True, kw_only=True):
    """One look; times by `time.perf_counter`, one clock for all processes of a host."""

    at_s: float
    health_s: float | None
    """From a connection's opening to the answer's end; None: there was no good answer."""
    memory: Memory | None = None
    """None: it was not looked at."""


@contextmanager
def probing(target: Target) -> Iterator[list[Sample]]:
    """Look while the block runs; the list is filled when it has ended."""
    address = target.address
    command = [sys.executable, "-m", "server.bench.load_probe", address.host, str(address.port)]
    command += [] if target.pid is None else [str(target.pid)]
    samples: list[Sample] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None, "it is a pipe"
            # Its start takes longer than a small crowd.
            process.stdout.readline()
            yield samples
        finally:
            printed, _ = process.communicate()
    if process.returncode != 0:
        raise BenchError("the probe of /health has ended too soon")
    samples += msgspec.json.decode(printed, type=list[Sample])


def memory_of(pid: int) -> Memory:
    """Of a process and its children, now.

    Raises:
        OSError: there is no such process, or it is somebody else's.
    """
    children = [
        int(child)
        for listing in Path(f"/proc/{pid}/task").glob("*/children")
        for child in listing.read_text().split()
    ]
    return Memory(
        round(_resident_mib(pid), 2),
        round(sum(map(_resident_mib, children)), 2),
        sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
    )


def _resident_mib(pid: int) -> float:
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith("VmRSS:")) / 1024


def _look(address: Address, pid: int | None) -> Sample:
    began_s = time.perf_counter()
    try:
        is_good = call(address, "GET", "/health")[0] == 200
    except (OSError, HTTPException):
        is_good = False
    took_s = time.perf_counter() - began_s
    memory = None if pid is None else memory_of(pid)
    return Sample(at_s=began_s, health_s=took_s if is_good else None, memory=memory)


def main() -> None:
    host, port, *pids = sys.argv[1:]
    pid = int(pids[0]) if pids else None
    address = Address(host, int(port))
    samples = [_look(address, pid)]
    sys.stdout.buffer.write(b"\n")
    sys.stdout.flush()
    due_s = time.perf_counter()
    while not select.select([sys.stdin], [], [], max(0.0, due_s - time.perf_counter()))[0]:
        looks_at = pid if len(samples) % _MEMORY_EVERY == 0 else None
        samples.append(_look(address, looks_at))
        due_s = max(due_s + _PERIOD_S, time.perf_counter())
    samples.append(_look(address, pid))
    sys.stdout.buffer.write(msgspec.json.encode(samples))


if __name__ == "__main__":
    main()
