from pathlib import Path

import pytest


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
