"""One real server for the whole session, or the one that BASE_URL names."""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from openai import OpenAI

from compat_tests.audio import Clip, decode
from compat_tests.process import ServerProcess
from compat_tests.recordings import encode, joined, silence
from compat_tests.texts import STORY, WEATHER

TIMEOUT_S = 20.0
API_KEY = os.environ.get("OPENAI_API_KEY", "sk-test")
BASE_URL = os.environ.get("BASE_URL", "").rstrip("/").removesuffix("/v1")


class ForeignServer(NamedTuple):
    """A server that runs already, wherever it is."""

    base_url: str


def needs_own_process() -> None:
    """Skip the test when the server is not ours to configure, watch or kill."""
    if BASE_URL:
        pytest.skip(f"needs a server process of its own, and BASE_URL is {BASE_URL}")


@pytest.fixture(scope="session")
def server_factory(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[Mapping[str, str]], ServerProcess]]:
    """Start a server with these environment variables; it is stopped when the session ends."""
    needs_own_process()
    started: list[ServerProcess] = []

    def start(env: Mapping[str, str]) -> ServerProcess:
        folder: Path = tmp_path_factory.mktemp("server")
        # Voices and models of whoever runs the tests are none of theirs.
        server = ServerProcess(folder / "log", {"XDG_DATA_HOME": str(folder), **env})
        started.append(server)
        server.wait_until_ready()
        return server

    yield start
    with ThreadPoolExecutor() as threads:  # an end is mostly waiting for others
        exit_codes = threads.map(ServerProcess.stop, [each for each in started if each.is_running])
        assert set(exit_codes) <= {0}


@pytest.fixture(scope="session")
def configured_server(
    server_factory: Callable[[Mapping[str, str]], ServerProcess],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], ServerProcess]:
    """Start a server with these lines of TOML as its configuration."""

    def start(toml: str) -> ServerProcess:
        path = tmp_path_factory.mktemp("config") / "rhapsode.toml"
        path.write_text(toml)
        return server_factory({"RHAPSODE_CONFIG": str(path)})

    return start


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> ServerProcess | ForeignServer:
    """The server under test, with its settings at their defaults."""
    if BASE_URL:
        return ForeignServer(BASE_URL)
    own: ServerProcess = request.getfixturevalue("server_factory")({})
    return own


@pytest.fixture(scope="session")
def own_server(server: ServerProcess | ForeignServer) -> ServerProcess:
    """The server under test, when its process and log are ours to see."""
    needs_own_process()
    assert isinstance(server, ServerProcess)
    return server


@pytest.fixture(scope="session")
def client(server: ServerProcess | ForeignServer) -> Iterator[OpenAI]:
    """The official SDK, which tries each call once."""
    with OpenAI(
        base_url=f"{server.base_url}/v1", api_key=API_KEY, max_retries=0, timeout=TIMEOUT_S
    ) as sdk:
        yield sdk


def spoken(server: ServerProcess | ForeignServer, text: str) -> Clip:
    """The text in the voice that the embedded recogniser understands best."""
    request = {"model": "tts-1", "voice": "ash", "input": text, "response_format": "wav"}
    headers = {"authorization": f"Bearer {API_KEY}"}
    url = f"{server.base_url}/v1/audio/speech"
    answer = httpx.post(url, json=request, headers=headers, timeout=TIMEOUT_S).raise_for_status()
    return decode(answer.content, "wav")


@pytest.fixture(scope="session")
def weather(server: ServerProcess | ForeignServer) -> Clip:
    """WEATHER, spoken: about two seconds."""
    return spoken(server, WEATHER)


@pytest.fixture(scope="session")
def weather_wav(weather: Clip) -> bytes:
    return encode(weather, "wav")


@pytest.fixture(scope="session")
def two_sentences(server: ServerProcess | ForeignServer, weather: Clip) -> Clip:
    """WEATHER and STORY, a second apart."""
    return joined(weather, silence(1.0, weather.sample_rate), spoken(server, STORY))


@pytest.fixture(scope="session")
def http(server: ServerProcess | ForeignServer) -> Iterator[httpx.Client]:
    """Plain HTTP, for what the SDK cannot send."""
    headers = {"authorization": f"Bearer {API_KEY}"}
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=TIMEOUT_S) as plain:
        yield plain
