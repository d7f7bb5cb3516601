import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The tests' event loop is the server's."""
    return "asyncio"
