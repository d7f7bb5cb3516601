"""How a crowd begins. Turns of the event loop are counted; no time is measured."""

import asyncio
import gc
import socket
import time
from collections.abc import Iterator

import pytest
import uvicorn
import uvloop
from litestar.types import Receive, Scope, Send

from server.connections import connections
from server.context import context_of
from server.doorway import Doorway
from server.routes.health import Drain
from server.serving import AnnouncingServer
from server.settings import Limits

CROWD = 20


class Begun:
    """An app that writes down which request began in which turn, and when by its clock."""

    def __init__(self) -> None:
        self.turn = 0
        self.turns: list[tuple[str, int]] = []
        self.began_at: list[float] = []
        self.started_at: list[float] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.turns.append((scope["path"], self.turn))
        self.began_at.append(time.perf_counter())
        self.started_at.append(context_of(scope).started_at)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.turns]

    async def pass_turns(self, count: int = 1) -> None:
        for _ in range(count):
            self.turn += 1
            await asyncio.sleep(0)


async def receive() -> object:
    raise AssertionError("nobody reads")


def request(path: str) -> Scope:
    return {"type": "http", "path": path, "state": {}}  # type: ignore[return-value]


def ask(doorway: Doorway, path: str) -> asyncio.Task[None]:
    return asyncio.ensure_future(doorway(request(path), receive, receive))  # type: ignore[arg-type]


def crowd(doorway: Doorway) -> list[asyncio.Task[None]]:
    return [ask(doorway, f"/{number}") for number in range(CROWD)]


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


def test_one_request_begins_in_a_turn_and_all_in_their_order(loop: asyncio.Runner) -> None:
    begun = Begun()

    async def come() -> None:
        tasks = crowd(Doorway(begun))
        await begun.pass_turns(2 * CROWD)
        await asyncio.gather(*tasks)

    loop.run(come())
    assert begun.paths == [f"/{number}" for number in range(CROWD)]
    assert len({turn for _, turn in begun.turns}) == CROWD


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
def test_a_probe_passes_those_that_wait(loop: asyncio.Runner, path: str) -> None:
    begun = Begun()

    async def come() -> None:
        doorway = Doorway(begun)
        tasks = [*crowd(doorway), ask(doorway, path)]
        await begun.pass_turns()
        assert begun.paths == ["/0", path]
        await asyncio.gather(*tasks)

    loop.run(come())


def test_who_comes_alone_begins_in_its_first_step() -> None:
    begun = Begun()

    async def come() -> None:
        doorway = Doorway(begun)
        doorway.connected()
        for path in ("/a", "/b"):
            step = doorway(request(path), receive, receive)  # type: ignore[arg-type]
            with pytest.raises(StopIteration):
                step.send(None)
            await begun.pass_turns(2)

    asyncio.run(come())
    assert begun.paths == ["/a", "/b"]


def test_connections_are_taken_before_requests_begin(loop: asyncio.Runner) -> None:
    begun = Begun()

    async def come() -> None:
        doorway = Doorway(begun)
        tasks = crowd(doorway)
        for _ in range(10):
            doorway.connected()
            await begun.pass_turns()
        assert begun.paths == ["/0"]
        await asyncio.gather(*tasks)

    loop.run(come())
    assert len(begun.paths) == CROWD


def test_connections_without_end_keep_nobody_out(loop: asyncio.Runner) -> None:
    begun = Begun()

    async def come() -> None:
        doorway = Doorway(begun)
        tasks = crowd(doorway)
        while len(begun.turns) < CROWD:
            doorway.connected()
            await begun.pass_turns()
            assert begun.turn < 100 * CROWD
        await asyncio.gather(*tasks)

    loop.run(come())


def test_one_that_is_cancelled_while_it_waits_holds_nobody_up(loop: asyncio.Runner) -> None:
    begun = Begun()

    async def come() -> None:
        tasks = crowd(Doorway(begun))
        await begun.pass_turns()
        for task in tasks[1:-1]:
            task.cancel()
        await begun.pass_turns(4)
        assert begun.paths == ["/0", f"/{CROWD - 1}"]
        await asyncio.gather(*tasks, return_exceptions=True)

    loop.run(come())


def test_the_wait_counts_in_a_request_s_own_time(loop: asyncio.Runner) -> None:
    begun = Begun()

    async def come() -> None:
        await asyncio.gather(*crowd(Doorway(begun)))

    loop.run(come())
    assert max(begun.started_at) < begun.began_at[1]


async def _taken_in(turns: int) -> int:
    """Connections that a server has, so many turns after a crowd has connected."""

    class Quiet(AnnouncingServer):
        async def main_loop(self) -> None:
            address = next(iter(self.servers)).sockets[0].getsockname()
            clients = [socket.create_connection(address) for _ in range(CROWD)]
            for _ in range(turns):
                await asyncio.sleep(0)
            taken.append(len(self.server_state.connections))
            for client in clients:
                client.close()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("nobody asks")

    taken: list[int] = []
    http = connections(Limits())
    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, http=http)
    try:
        await Quiet(config, Drain(), 0.0).serve()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
    return taken[0]


def test_connections_that_come_together_are_taken_together(loop: asyncio.Runner) -> None:
    assert loop.run(_taken_in(turns=CROWD // 2)) == CROWD
