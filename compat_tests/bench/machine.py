"""What a figure must be read with: machine, versions, commit, command."""

import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "litestar",
    "uvicorn",
    "uvloop",
    "httptools",
    "msgspec",
    "numpy",
    "av",
    "espeakng-loader",
    "pocketsphinx",
    "faster-whisper",
    "ctranslate2",
)


def provenance(module: str) -> dict[str, object]:
    """Everything beside the figures that this module measures."""
    return {
        "command": " ".join(["python", "-m", module, *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "hardware": {
            "cpu": _line("/proc/cpuinfo", "model name"),
            "cores": len(os.sched_getaffinity(0)),
            "memory": _line("/proc/meminfo", "MemTotal"),
        },
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": packages(*PACKAGES),
        "load_before": os.getloadavg()[0],
    }


def packages(*names: str) -> dict[str, str | None]:
    """Their versions; None for one that is not installed."""
    return {name: _version(name) for name in names}


def _commit() -> str | None:
    """The commit of the working tree, with a plus sign when it was changed since."""
    git = shutil.which("git")
    if git is None:
        return None
    head = _output([git, "rev-parse", "--short=12", "HEAD"])
    return head and head + ("+" if _output([git, "status", "--porcelain"]) else "")


def _output(command: list[str]) -> str | None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _line(path: str, key: str) -> str | None:
    """The value of the first `key: value` line of a file of the kernel's."""
    with Path(path).open() as lines:
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), None)
