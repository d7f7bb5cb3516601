"""SIGTERM: say so, stop to listen, let requests finish, end well. A real process."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from compat_tests.process import ServerProcess
from compat_tests.texts import LONGEST
from compat_tests.waiting import wait_for
from compat_tests.wire import connect, read_chunks, read_head, speech_request

LONG = {"model": "tts-1", "input": LONGEST, "voice": "alloy", "response_format": "pcm"}
"""Minutes of audio: more than all buffers hold."""

Start = Callable[[Mapping[str, str]], ServerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started = []

    def start(env: Mapping[str, str]) -> ServerProcess:
        process = ServerProcess(tmp_path / "log", {"XDG_DATA_HOME": str(tmp_path), **env})
        started.append(process)
        process.wait_until_ready()
        return process

    yield start
    for process in started:
        process.kill()


def is_listening(server: ServerProcess) -> bool:
    try:
        connect(server.base_url).close()
    except ConnectionError:
        return False
    return True


def test_a_stream_that_runs_is_heard_to_its_end(start: Start) -> None:
    server = start({})
    with connect(server.base_url) as connection, connection.makefile("rb") as stream:
        connection.sendall(speech_request(server.base_url, LONG))
        assert read_head(stream)[0] == 200
        os.kill(server.pid, signal.SIGTERM)
        wait_for(lambda: not is_listening(server), 5.0, "it listens no more")
        assert sum(map(len, read_chunks(stream))) > 60 * 2 * 24_000
    assert server.stop() == 0


def test_a_stream_that_nobody_reads_is_cut_at_the_deadline(start: Start) -> None:
    server = start({"RHAPSODE_DRAIN_S": "1"})
    with connect(server.base_url) as connection, connection.makefile("rb") as stream:
        connection.sendall(speech_request(server.base_url, LONG))
        assert read_head(stream)[0] == 200
        assert server.stop() == 0
        with pytest.raises((EOFError, ConnectionError)):
            list(read_chunks(stream))


def test_a_balancer_is_told_before_the_server_stops_to_listen(start: Start) -> None:
    server = start({"RHAPSODE_ANNOUNCE_S": "3"})
    os.kill(server.pid, signal.SIGTERM)
    with httpx.Client(base_url=server.base_url) as client:
        wait_for(lambda: client.get("/ready").status_code == 503, 2.0, "/ready says so")
        assert client.get("/ready").json()["status"] == "not_ready"
        assert client.get("/health").status_code == 200
    assert server.stop() == 0
