"""The steps of Dockerfile.cpu in an empty folder, without a container engine.

    python -m deploy.tests.clean_root

Runs each RUN of the build stage but apt-get's, then the image's own command line with the image's
environment: as the image's user where this one is root, over a tree that nobody may write. It asks
the image's own health check, speaks, and ends the server while it speaks. Prints what it saw.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import httpx

from deploy.tests.recipe import Stage, stages

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/docker/Dockerfile.cpu"
LONG_TEXT = "This sentence is spoken while the server is asked to end. " * 60
_READY_WITHIN_S = 30.0
_ANSWER_WITHIN_S = 60.0


class OnlyForRoot(Exception):
    """Python lies where the image's user cannot go."""


class Served(NamedTuple):
    """What the server did."""

    user_id: int
    health_before: int
    """Exit status of the health check while nothing listens."""
    ready_s: float
    pcm_bytes: int
    """Of LONG_TEXT."""
    drained_pcm_bytes: int
    """Of the same, when the server was told to end after the first byte."""
    exit_code: int


class Seen(NamedTuple):
    """What one run showed."""

    served: Served
    weight_mib: float
    """Of the installed environment, on disk."""
    written: list[str]
    """Files of the environment that the server made or changed."""


def run(root: Path, borrow: bool) -> Seen:
    """Install into an empty folder and run what was installed.

    Args:
        root: Stands for the file system of the image.
        borrow: Take dependencies from this Python's environment, and fetch nothing.
    Raises:
        OnlyForRoot: run by root, with a Python that others cannot run.
        RuntimeError: the server does not become ready.
    """
    build, final = stages(DOCKERFILE)
    _copy_sources(root, build)
    if borrow:
        _install_borrowing(root)
    else:
        _install(root, build)
    volumes = [root / path.lstrip("/") for path in ("var/lib/rhapsode", "var/cache/rhapsode")]
    user_id = int(final.last("USER").partition(":")[0]) if os.geteuid() == 0 else os.geteuid()
    for volume in volumes:
        volume.mkdir(parents=True)
        os.chown(volume, user_id, -1)
    shutil.rmtree(root / "src")
    subprocess.run(["/bin/chmod", "-R", "a-w", root / "opt"], check=True)
    before = _files(root / "opt")
    served = _serve(root, final, user_id)
    after = _files(root / "opt")
    written = sorted({name for name, _ in before ^ after})
    blocks = sum(path.lstat().st_blocks for path in (root / "opt").rglob("*"))
    return Seen(served, round(blocks * 512 / 2**20, 1), written)


def _copy_sources(root: Path, build: Stage) -> None:
    """COPY, less what .dockerignore leaves out of these folders."""
    left_out = shutil.ignore_patterns("tests", "__pycache__", "*.pyc")
    for step in build.all("COPY"):
        *names, _ = step.split()
        for name in names:
            if (source := ROOT / name).is_dir():
                shutil.copytree(source, root / "src" / name, ignore=left_out)
            else:
                (root / "src").mkdir(parents=True, exist_ok=True)
                shutil.copy(source, root / "src" / name)


def _install(root: Path, build: Stage) -> None:
    for step in build.all("RUN"):
        if step.startswith("apt-get"):
            continue
        script = re.sub(r"(?<![\w/])/(opt|tmp)\b", rf"{root}/\1", step)
        # This Python's pip: it knows --python, and how this machine reaches its packages.
        script = script.replace("python3 -m pip", f"{sys.executable} -m pip")
        script = script.replace("python3 -m venv", f"{_base_python()} -m venv")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("RHAPSODE_", "PYTHON"))}
        (root / "opt").mkdir(exist_ok=True)
        subprocess.run(["/bin/sh", "-ec", script], cwd=root / "src", env=clean, check=True)


def _install_borrowing(root: Path) -> None:
    home = root / "opt/rhapsode"
    own_packages = Path(sysconfig.get_path("purelib"))
    if not _is_reachable(own_packages):
        raise OnlyForRoot(f"only root can read {own_packages}")
    subprocess.run([_base_python(), "-m", "venv", "--without-pip", home], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    for room in ("server", "engine", "voices"):
        shutil.copytree(root / "src" / room, site / room)
    (site / "borrowed.pth").write_text(f"{own_packages}\n")
    command = home / "bin/rhapsode"
    command.write_text(
        f"#!{home}/bin/python\nimport sys\nfrom server.cli import main\nsys.exit(main())\n"
    )
    command.chmod(0o755)


def _base_python() -> str:
    """The interpreter below this one; the system's, if only root could run that."""
    own = Path(sys.executable).resolve()
    same = Path("/usr/bin") / f"python{sys.version_info.major}.{sys.version_info.minor}"
    if _is_reachable(own):
        return str(own)
    if same.exists():
        return str(same)
    raise OnlyForRoot(f"only root can run {own}, and there is no {same}")


def _is_reachable(path: Path) -> bool:
    """Whether the image's user can get there, where this one is root."""
    return os.geteuid() != 0 or all(each.stat().st_mode & 0o001 for each in path.parents)


def _serve(root: Path, final: Stage, user_id: int) -> Served:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    env = {key: _below(root, value) for key, value in final.environment().items()}
    env |= {"RHAPSODE_HOST": "127.0.0.1", "RHAPSODE_PORT": str(port)}
    check = [word.replace(":8000/", f":{port}/") for word in final.health_command()]
    health_before, began = _status_of(check, env), time.monotonic()
    is_root = os.geteuid() == 0
    server = subprocess.Popen(
        _found(final.command(), env),
        env=env,
        cwd=_below(root, final.last("WORKDIR")),
        user=user_id if is_root else None,
        extra_groups=[] if is_root else None,
    )
    try:
        while _status_of(check, env) != 0:
            if server.poll() is not None or time.monotonic() - began > _READY_WITHIN_S:
                raise RuntimeError(f"the server is not ready; exit status {server.poll()}")
        ready_s = round(time.monotonic() - began, 2)
        pcm_bytes = _speak(port)
        drained_pcm_bytes = _speak(port, when_it_begins=server.terminate)
        exit_code = server.wait(_ANSWER_WITHIN_S)
    finally:
        server.kill()
        server.wait()
    return Served(user_id, health_before, ready_s, pcm_bytes, drained_pcm_bytes, exit_code)


def _status_of(check: list[str], env: dict[str, str]) -> int:
    done = subprocess.run(_found(check, env), env=env, stderr=subprocess.DEVNULL, check=False)
    return done.returncode


def _found(command: list[str], env: dict[str, str]) -> list[str]:
    """With its program looked up where the image would."""
    if (program := shutil.which(command[0], path=env["PATH"])) is None:
        raise RuntimeError(f"{command[0]} is not in the image")
    return [program, *command[1:]]


def _below(root: Path, value: str) -> str:
    """Paths of the image as paths here."""
    parts = value.split(":") if value.startswith("/") else []
    ours = ("/opt/", "/var/")
    return ":".join(f"{root}{p}" if p.startswith(ours) else p for p in parts) or value


def _speak(port: int, when_it_begins: Callable[[], None] = lambda: None) -> int:
    """Bytes of LONG_TEXT, as they came."""
    fields = {"model": "tts-1", "voice": "alloy", "input": LONG_TEXT, "response_format": "pcm"}
    url = f"http://127.0.0.1:{port}/v1/audio/speech"
    with httpx.stream("POST", url, json=fields, timeout=_ANSWER_WITHIN_S) as answer:
        answer.raise_for_status()
        chunks = answer.iter_raw()
        size = len(next(chunks))
        when_it_begins()
        return size + sum(map(len, chunks))


def _files(folder: Path) -> set[tuple[str, int]]:
    return {(str(path), path.lstat().st_mtime_ns) for path in folder.rglob("*")}


def clean_root(borrow: bool) -> Seen:
    """`run` in a temporary folder that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="rhapsode-root-") as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "tmp").mkdir()
        try:
            return run(root, borrow)
        finally:
            subprocess.run(["/bin/chmod", "-R", "u+w", root], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--borrow", action="store_true", help="dependencies of this Python's")
    seen = clean_root(parser.parse_args().borrow)
    served = seen.served
    report = served._asdict() | {"weight_mib": seen.weight_mib, "written": seen.written}
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    is_whole = served.pcm_bytes == served.drained_pcm_bytes
    return 0 if is_whole and not served.exit_code and not seen.written else 1


if __name__ == "__main__":
    sys.exit(main())
