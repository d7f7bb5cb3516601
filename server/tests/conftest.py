import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import server.app
from server.decoders import Decoders


class SharedDecoders(Decoders):
    """Of one app of many, which all have the same parent process.

    Args:
        shared: Have the process; they outlive the app.
    """

    def __init__(self, shared: Decoders, most: int, *, log_level: str) -> None:
        super().__init__(most, log_level=log_level)
        self._shared = shared

    def start(self) -> None:
        self._shared.start()
        self._control, self._process = self._shared._control, self._shared._process

    async def stop(self) -> None:
        self._control = self._process = None


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The tests' event loop is the server's."""
    return "asyncio"


@pytest.fixture(autouse=True)
def user_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a test keeps is not kept among this user's voices and models."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    return home


@pytest.fixture(scope="session")
def all_decoders() -> Iterator[Decoders]:
    decoders = Decoders(1)
    yield decoders
    asyncio.run(decoders.stop())


@pytest.fixture(autouse=True)
def shared_decoders(all_decoders: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    """To start and end a process takes a third of a second, which hundreds of apps need not."""
    monkeypatch.setattr(server.app, "Decoders", partial(SharedDecoders, all_decoders))
