"""Kill the embedded engine's worker again and again under load, and count what that costs.

`python -m deploy.tests.kill_workers [--kills 50] [--clients 8] [--out FILE.json]` starts a server
of its own on a loopback port and prints JSON: the figures, and what they must be read with, as
`rhapsode bench` does. The exit status is 1 if a speech was cut short without a sign, if a request
failed that was not on its way when a worker was killed, or if the 95th percentile of recovery is
2 s or more. Recovery is from the kill to the first byte of a request sent right after.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import httpx

from compat_tests.process import ServerProcess, running_jobs
from compat_tests.texts import PARAGRAPH, SENTENCE
from compat_tests.waiting import wait_for
from server.bench.host import facts

ENGINE = "espeak-ng"
RECOVERY_LIMIT_S = 2.0
TIMEOUT_S = 30.0
PAUSES_S = (0.3, 2.0)
"""Between two kills, at least and at most."""
SEEN_WITHIN_S = 0.05
"""The server may give a request to a worker that has been dead for so long."""

Fields: TypeAlias = Mapping[str, object]
Outcome: TypeAlias = Literal["whole", "short", "broken", "refused"]

_LOAD: tuple[Fields, ...] = (
    {"response_format": "pcm"},
    {"response_format": "pcm", "stream": False},
    {"response_format": "mp3"},
)
"""What clients ask for, in turn: streams and whole clips."""
_TEXT = " ".join([PARAGRAPH] * 3)
"""About 45 s at half speed: some are whole before the worker dies, some on their way."""


class Attempt(NamedTuple):
    """One request of the load; times are those of a monotonic clock."""

    began_at: float
    ended_at: float
    outcome: Outcome
    status: int | None
    """None: the connection was broken off before there was one."""


def speech(fields: Fields, text: str) -> dict[str, object]:
    return {"model": ENGINE, "voice": "alloy", "input": text, "speed": 0.5, **fields}


class Load:
    """Clients that ask for the same speeches over and over.

    Args:
        base_url: The server's. It must be well: the right answers are fetched first.
    """

    def __init__(self, base_url: str) -> None:
        self._url = f"{base_url}/v1/audio/speech"
        self._stop = threading.Event()
        self.attempts: list[Attempt] = []
        with httpx.Client(timeout=TIMEOUT_S) as client:
            self._right = [
                sha256(client.post(self._url, json=speech(fields, _TEXT)).read()).digest()
                for fields in _LOAD
            ]

    def run(self, first: int) -> None:
        """One client; returns after `stop`. A thread of its own."""
        with httpx.Client(timeout=TIMEOUT_S) as client:
            for number in count(first):
                if self._stop.is_set():
                    return
                self.attempts.append(self._ask(client, number % len(_LOAD)))

    def stop(self) -> None:
        self._stop.set()

    def recovery_s(self) -> float:
        """From now until a new request is answered."""
        began_at = time.monotonic()
        with httpx.Client(timeout=TIMEOUT_S) as client:
            while True:
                request = speech({"response_format": "pcm"}, SENTENCE)
                with client.stream("POST", self._url, json=request) as answer:
                    if answer.is_success and next(answer.iter_raw()):
                        return time.monotonic() - began_at

    def _ask(self, client: httpx.Client, kind: int) -> Attempt:
        began_at, status = time.monotonic(), None
        outcome: Outcome
        digest = sha256()
        try:
            request = speech(_LOAD[kind], _TEXT)
            with client.stream("POST", self._url, json=request) as answer:
                status = answer.status_code
                for data in answer.iter_raw():
                    digest.update(data)
            if not answer.is_success:
                outcome = "refused"
            else:
                outcome = "whole" if digest.digest() == self._right[kind] else "short"
        except httpx.TransportError:
            outcome = "broken"
        return Attempt(began_at, time.monotonic(), outcome, status)


def kill_under_load(server: ServerProcess, kills: int, clients: int) -> dict[str, object]:
    """The figures."""
    load = Load(server.base_url)
    draw = random.Random(0)  # noqa: S311 - the same pauses every time
    deaths: list[tuple[float, float]] = []
    recovery_s: list[float] = []
    pause = threading.Event()
    with ThreadPoolExecutor(clients) as threads:
        running = [threads.submit(load.run, number) for number in range(clients)]
        try:
            for _ in range(kills):
                pause.wait(draw.uniform(*PAUSES_S))
                wait_for(lambda: running_jobs(server.base_url) > 0, TIMEOUT_S, "there is load")
                began_at = time.monotonic()
                server.kill_worker(ENGINE)
                deaths.append((began_at, time.monotonic() + SEEN_WITHIN_S))
                recovery_s.append(load.recovery_s())
        finally:
            load.stop()
        for client in running:
            client.result()
    delays = [line.rpartition("=")[2] for line in server.lines() if "event=worker_restart" in line]
    return figures(load.attempts, deaths, sorted(recovery_s)) | {
        "restart_delays_s": dict(Counter(delays))
    }


def figures(
    attempts: list[Attempt], deaths: list[tuple[float, float]], recovery_s: list[float]
) -> dict[str, object]:
    """What it cost. `deaths`: from when until when each worker died. `recovery_s` is sorted."""
    failed = [each for each in attempts if each.outcome in ("broken", "refused")]
    touched = [
        each
        for each in failed
        if any(each.began_at <= last and first <= each.ended_at for first, last in deaths)
    ]
    return {
        "kills": len(deaths),
        "requests": len(attempts),
        "outcomes": dict(Counter(each.outcome for each in attempts)),
        "failed": len(failed),
        "statuses": dict(Counter(str(each.status) for each in attempts)),
        "failed_untouched": len(failed) - len(touched),
        "short_successes": sum(each.outcome == "short" for each in attempts),
        "recovery_s": {
            f"p{percent}": round(recovery_s[len(recovery_s) * percent // 100], 3)
            for percent in (50, 95)
        }
        | {"max": round(recovery_s[-1], 3)},
    }


def main() -> int:
    """Entry point; the exit status."""
    parser = argparse.ArgumentParser(description="Kill a worker again and again under load.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="where the figures go, too")
    parser.add_argument("--commit", help="of this code, where there is no git to ask")
    args = parser.parse_args()
    command = " ".join(["python -m deploy.tests.kill_workers", *sys.argv[1:]])
    read_with = {**facts(args.commit), "command": command}
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder) / "log", {"XDG_DATA_HOME": folder})
        try:
            server.wait_until_ready()
            found = kill_under_load(server, args.kills, args.clients)
        finally:
            server.stop()
    report = json.dumps({**read_with, "figures": found}, indent=2) + "\n"
    sys.stdout.write(report)
    if args.out is not None:
        args.out.write_text(report, encoding="utf-8")
    recovery = found["recovery_s"]
    assert isinstance(recovery, dict)
    is_well = recovery["p95"] < RECOVERY_LIMIT_S
    return 0 if is_well and not found["failed_untouched"] and not found["short_successes"] else 1


if __name__ == "__main__":
    sys.exit(main())
