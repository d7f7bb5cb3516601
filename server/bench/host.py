"""The server that is measured: a process of its own, with settings of its own."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from msgspec import Struct

from server import VERSION
from server.bench.measure import Address, BenchError, Figures, call

_HOST = "127.0.0.1"
_PAUSE_S = 0.02
_LOG_LINES = 20
_PACKAGES = ("torch", "torchaudio", "triton", "onnxruntime", "litestar", "numpy")


class Host(Struct, frozen=True):
    """A server that is ready."""

    address: Address
    pid: int
    start_to_ready_s: float


@contextmanager
def own_server(settings: Mapping[str, object], within_s: float) -> Iterator[Host]:
    """A server that is stopped afterwards.

    Args:
        settings: Those of the settings file.
        within_s: Until it has to be ready.
    Raises:
        BenchError: it did not start; the message holds the end of its log.
    """
    with tempfile.TemporaryDirectory() as folder:
        config, log = Path(folder) / "rhapsode.toml", Path(folder) / "log"
        # Voices that the user has must not decide what is measured.
        config.write_text(_toml({"voices": {"place": f"{folder}/voices"}, **settings}))
        with socket.create_server((_HOST, 0)) as listener:
            address = Address(_HOST, listener.getsockname()[1])
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RHAPSODE_")}
        command = [sys.executable, "-m", "server.cli", "serve", "--config", str(config)]
        command += ["--host", _HOST, "--port", str(address.port)]
        env = {**inherited, "PYTHONUNBUFFERED": "1"}
        began = time.monotonic()
        with log.open("wb") as sink:
            process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=env)
        try:
            _wait(process, address, log, within_s)
            yield Host(address, process.pid, time.monotonic() - began)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def description(address: Address, model: str) -> str:
    """What the engine behind a model says of itself.

    Raises:
        BenchError: there is no such model.
    """
    status, body = call(address, "GET", f"/v1/models/{model}")
    if status != 200:
        raise BenchError(f"the server has no model {model}")
    return str(json.loads(body)["description"])


def free_bytes() -> dict[str, int]:
    """Of each device, as its driver tells it, whatever takes the rest; to the MiB."""
    return {
        name: int(line.removesuffix(" MiB")) << 20 for name, line in devices("memory.free").items()
    }


def memory(pid: int) -> Figures:
    """Of the server with its workers, and of the devices as their driver tells it, MiB."""
    return {"host_mib": round(sum(map(_resident_mib, _family(pid)))), **devices("memory.used")}


def devices(query: str) -> dict[str, str]:
    """What the NVIDIA driver says of each device; of none where there is no such driver."""
    if (command := shutil.which("nvidia-smi")) is None:
        return {}
    done = subprocess.run(
        [command, f"--query-gpu={query}", "--format=csv,noheader"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {f"device_{index}": line for index, line in enumerate(done.stdout.splitlines())}


def facts(commit: str | None) -> Figures:
    """What a figure has to be read with.

    Args:
        commit: Of this code; None: what git says of it, if it can be asked.
    """
    return {
        "command": " ".join(["rhapsode", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "rhapsode": VERSION,
        "commit": commit or _commit(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "devices": devices("name,driver_version,memory.total"),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _wait(process: subprocess.Popen[bytes], address: Address, log: Path, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not _is_ready(address):
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            raise BenchError("the server did not become ready:\n" + "\n".join(lines))
        time.sleep(_PAUSE_S)


def _is_ready(address: Address) -> bool:
    try:
        return call(address, "GET", "/ready")[0] == 200
    except OSError:
        return False


def _family(pid: int) -> list[int]:
    listings = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for listing in listings for child in listing.read_text().split()]
    return [pid, *(each for child in children for each in _family(child))]


def _resident_mib(pid: int) -> float:
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith("VmRSS:")) / 1024


def _commit() -> str | None:
    """Of the working tree that this file is in, with "-dirty" behind it if it was changed since."""
    git, root = shutil.which("git"), Path(__file__).parents[2]
    if git is None or not (root / ".git").exists():
        return None
    command = [git, "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _toml(settings: Mapping[str, object], prefix: str = "") -> str:
    """One line a leaf, with dotted keys: a string, number or list is written as in JSON."""
    lines = []
    for name, value in settings.items():
        key = f"{prefix}{json.dumps(name)}"
        if isinstance(value, Mapping):
            lines.append(_toml(value, f"{key}."))
        else:
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}\n")
    return "".join(lines)
