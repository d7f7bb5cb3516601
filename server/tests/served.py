"""The app behind a real socket, in a thread of the tests' process."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, BinaryIO

import uvicorn

from engine.protocol import PromptSource
from engine.types import PcmChunk, SynthesisRequest
from server.app import create_app
from server.catalog import Engines
from server.connections import connections
from server.settings import Settings
from server.tests.fakes import FakeEngine, tone

WAIT_S = 10.0
_FLOOD = 10_000


class EndlessEngine(FakeEngine):
    """Speaks until nobody listens."""

    def __init__(self) -> None:
        super().__init__()
        self.has_ended = Event()

    async def synthesize(
        self, request: SynthesisRequest, request_id: str, prompt: PromptSource | None = None
    ) -> AsyncGenerator[PcmChunk, None]:
        self.open_streams += 1
        try:
            while True:
                yield PcmChunk(tone())
                await asyncio.sleep(0)  # a worker's audio comes over a socket
        finally:
            self.open_streams -= 1
            self.has_ended.set()


class Talk:
    """One connection, spoken by hand."""

    def __init__(self, port: int, receive_bytes: int | None = None) -> None:
        self._socket = socket.socket()
        self._socket.settimeout(WAIT_S)
        if receive_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._socket.connect(("127.0.0.1", port))
        self._stream: BinaryIO = self._socket.makefile("rb")

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()

    def say(self, data: bytes) -> None:
        self._socket.sendall(data)

    def post(
        self,
        path: str,
        body: bytes,
        media_type: str = "application/json",
        length: int | None = None,
    ) -> None:
        """A request, or as much of one as there is of its body."""
        head = f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {media_type}\r\n"
        length = len(body) if length is None else length
        self.say(f"{head}content-length: {length}\r\n\r\n".encode() + body)

    def floods(self, data: bytes) -> bool:
        """Whether the server ends the connection when this is sent again and again."""
        try:
            for _ in range(_FLOOD):
                self.say(data)
        except ConnectionError:
            return True
        return False

    def status(self) -> int:
        """Of the next answer, whose head is read."""
        status = int(self._stream.readline().split()[1])
        while self._stream.readline().strip():
            pass
        return status

    def is_refused(self) -> bool:
        """Whether the next answer is 400, or the server hung up on what it had not read yet."""
        try:
            return self.status() == 400 and self.is_ended()
        except (ConnectionError, IndexError):
            return True

    def is_ended(self) -> bool:
        """Whether the server ends the connection; what it sends until then is left aside."""
        try:
            while self._stream.read(1 << 16):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True


@contextmanager
def served(engine: FakeEngine, settings: Settings) -> Iterator[int]:
    """The port of a server that runs while the block does."""
    app: Any = create_app(settings, Engines({"espeak-ng": engine}))
    config = uvicorn.Config(
        app,
        http=connections(settings.limits),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
