"""A real server process, driven from outside only: command line, signals, /proc and HTTP."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from compat_tests.waiting import wait_for

ROOT = Path(__file__).parents[1]
WORKER_MODULE = b"engine.runtime.worker"
PYTHON = os.environ.get("SERVER_PYTHON", sys.executable)
"""Runs the server: the SDK under test may live in an environment of its own."""


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def is_ready(base_url: str) -> bool:
    """Whether the server takes requests."""
    try:
        return httpx.get(f"{base_url}/ready", timeout=2.0).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def engine_states(base_url: str) -> dict[str, dict[str, Any]]:
    """What /ready tells of each engine: state, workers, jobs, restarts."""
    engines: dict[str, dict[str, Any]] = httpx.get(f"{base_url}/ready").json()["engines"]
    return engines


def running_jobs(base_url: str) -> int:
    """How many jobs the engines work on."""
    return sum(state["jobs"] for state in engine_states(base_url).values())


def has_recovered(base_url: str, engine: str, restarts: int) -> bool:
    """Whether the engine works, after so many restarts."""
    state = engine_states(base_url)[engine]
    return bool(state["state"] == "ready" and state["restarts"] == restarts)


def is_running(pid: int) -> bool:
    """Whether the process exists and has not ended: a zombie has."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


class ServerProcess:
    """`rhapsode serve` on a free loopback port, from the working tree.

    Args:
        log: The file that takes all that the server prints.
        env: Settings for it; those of the caller's own environment are left out.
    """

    def __init__(self, log: Path, env: Mapping[str, str] | None = None) -> None:
        port = free_port()
        self.base_url = f"http://127.0.0.1:{port}"
        self.command = ["-m", "server.cli", "serve", "--host", "127.0.0.1", "--port", str(port)]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RHAPSODE_")}
        self._log = log
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                [PYTHON, *self.command],
                cwd=ROOT,
                env={**inherited, "PYTHONUNBUFFERED": "1", **(env or {})},
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
        self.pid = self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self, within_s: float = 30.0) -> None:
        """Wait for /ready.

        Raises:
            RuntimeError: the process ended instead; the message holds what it printed.
            TimeoutError: it is not ready yet.
        """
        wait_for(
            lambda: not self.is_running or is_ready(self.base_url), within_s, "the server is ready"
        )
        if not self.is_running:
            raise RuntimeError("the server did not start:\n" + "\n".join(self.lines()))

    def lines(self) -> list[str]:
        """What the server has printed so far."""
        return self._log.read_text(errors="replace").splitlines()

    def workers(self, engine: str = "") -> list[int]:
        """The pids of its workers, or of one engine's: its children whose command line says so."""
        children = Path(f"/proc/{self.pid}/task").glob("*/children")
        pids = [int(pid) for listing in children for pid in listing.read_text().split()]
        lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}
        marks = WORKER_MODULE, engine.encode()
        return [pid for pid, line in lines.items() if all(mark in line for mark in marks)]

    def kill_worker(self, engine: str) -> None:
        """Take the engine's only worker away, as an out-of-memory killer would."""
        (worker,) = self.workers(engine)
        os.kill(worker, signal.SIGKILL)

    def kill(self) -> None:
        """End the server without letting it clean up."""
        self._process.kill()
        self._process.wait()

    def stop(self, within_s: float = 10.0) -> int:
        """Ask it to end, wait, and tell its exit code.

        Raises:
            subprocess.TimeoutExpired: it did not end; it is killed then.
        """
        self._process.terminate()
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
