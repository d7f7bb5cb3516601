"""The tools as the official MCP client sees them, over both transports, around real engines."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple

import anyio
import httpx
import httpx2
import pytest
from litestar.testing import TestClient
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import AudioContent, CallToolResult, TextContent

from compat_tests.audio import SILENCE_RMS, Clip, Format, decode
from compat_tests.process import ROOT, ServerProcess
from compat_tests.texts import STORY
from server.app import create_app
from server.catalog import Engines
from server.cli import main
from server.settings import McpSettings, Settings
from server.tests.fake_voices import recording
from server.tests.fakes import FakeEngine

pytestmark = pytest.mark.anyio

TIMEOUT_S = 20.0
BOOK = "The harbour was quiet, and a lamp burned above the door. " * 3000
"""Far more than an engine speaks while a test waits."""
LIMITS = {"RHAPSODE_LIMITS__INPUT_CHARS": "200000"}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
ACCEPT = {"accept": "application/json, text/event-stream"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


class Connection(NamedTuple):
    """A client, and the folder that its server may write."""

    client: Client
    folder: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Path]]:
    """With two keys, and a folder."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("sounds")
    process = ServerProcess(
        home / "log",
        {
            **LIMITS,
            "XDG_DATA_HOME": str(home),
            "XDG_CACHE_HOME": str(home),
            "RHAPSODE_API_KEYS": "key-one,key-two",
            "RHAPSODE_MCP__FOLDERS": str(folder),
        },
    )
    process.wait_until_ready()
    yield process, folder
    assert process.stop() == 0


@asynccontextmanager
async def over_http(server: ServerProcess, key: str) -> AsyncGenerator[Any, None]:
    """A transport for `Client`."""
    headers = {"authorization": f"Bearer {key}"}
    url = f"{server.base_url}/mcp"
    async with (
        httpx2.AsyncClient(headers=headers, timeout=TIMEOUT_S) as bearer,
        streamable_http_client(url, http_client=bearer) as streams,
    ):
        yield streams


def over_stdio(folder: Path, home: Path, log: Any) -> Any:
    """A transport for `Client`, and with it a process."""
    env = {**LIMITS, "XDG_DATA_HOME": str(home), "XDG_CACHE_HOME": str(home)}
    args = ["-m", "server.cli", "mcp", "--folder", str(folder)]
    return stdio_client(
        StdioServerParameters(command=sys.executable, args=args, env=env, cwd=ROOT), errlog=log
    )


@pytest.fixture(scope="module", params=["stdio auto", "stdio legacy", "http auto", "http legacy"])
async def connection(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Connection]:
    """Each transport, in the protocol's present and its former form."""
    transport, mode = request.param.split()
    async with AsyncExitStack() as stack:
        if transport == "stdio":
            folder, home = tmp_path_factory.mktemp("sounds"), tmp_path_factory.mktemp("home")
            log = stack.enter_context((home / "log").open("w"))
            streams = over_stdio(folder, home, log)
        else:
            server, folder = request.getfixturevalue("server")
            streams = over_http(server, "key-one")
        client = Client(streams, mode=mode, read_timeout_seconds=TIMEOUT_S)
        yield Connection(await stack.enter_async_context(client), folder)


async def call(connection: Connection, tool: str, **arguments: object) -> str:
    """The text of an answer that is none of an error."""
    result = await connection.client.call_tool(tool, arguments)
    assert not result.is_error, result
    return text_of(result)


async def refusal(connection: Connection, tool: str, **arguments: object) -> str:
    """The text of an error."""
    result = await connection.client.call_tool(tool, arguments)
    assert result.is_error, result
    assert "request_id=req_" in text_of(result)
    return text_of(result)


def text_of(result: CallToolResult) -> str:
    return next(each.text for each in result.content if isinstance(each, TextContent))


def sound_of(result: CallToolResult, response_format: Format) -> Clip:
    (audio,) = [each for each in result.content if isinstance(each, AudioContent)]
    return decode(base64.b64decode(audio.data), response_format)


async def test_tools_say_what_they_take(connection: Connection) -> None:
    tools = {tool.name: tool for tool in (await connection.client.list_tools()).tools}
    assert set(tools) == {"speak", "transcribe", "list_voices", "add_voice", "status"}
    assert tools["speak"].input_schema["required"] == ["text"]
    assert all(tool.description for tool in tools.values())
    for tool in tools.values():
        assert all("description" in field for field in tool.input_schema["properties"].values())


async def test_speech_is_returned_as_audio(connection: Connection) -> None:
    result = await connection.client.call_tool("speak", {"text": STORY, "format": "flac"})
    clip = sound_of(result, "flac")
    assert 1.0 < clip.duration_s < 4.0
    assert clip.rms > SILENCE_RMS


async def test_what_was_spoken_to_a_file_is_understood(connection: Connection) -> None:
    name = f"{token_hex(4)}.wav"
    await call(connection, "speak", text=STORY, voice="ash", path=name)
    clip = decode((connection.folder / name).read_bytes(), "wav")
    assert clip.rms > SILENCE_RMS
    assert "nothing" in await call(connection, "transcribe", path=name)


async def test_recording_may_come_within_the_message(connection: Connection) -> None:
    spoken = await connection.client.call_tool("speak", {"text": STORY, "voice": "ash"})
    (audio,) = [each.data for each in spoken.content if isinstance(each, AudioContent)]
    subtitles = await call(connection, "transcribe", audio=audio, format="srt")
    assert " --> " in subtitles
    assert "nothing" in subtitles


async def test_progress_is_told_in_seconds_of_speech(connection: Connection) -> None:
    told: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    arguments = {"text": STORY * 3, "format": "wav"}
    result = await connection.client.call_tool("speak", arguments, progress_callback=on_progress)
    assert len(told) >= 2
    assert told == sorted(set(told))
    assert told[-1] <= sound_of(result, "wav").duration_s + 0.01


async def test_added_voice_is_listed_and_speaks(connection: Connection) -> None:
    name = f"Ada {token_hex(4)}"
    sample = base64.b64encode(recording()).decode()
    added = json.loads(await call(connection, "add_voice", name=name, audio=sample, text="A canoe"))
    listed = json.loads(await call(connection, "list_voices"))
    names = {voice["voice"]: voice["id"] for voice in listed}
    assert names[name] == added["id"]
    assert "alloy" in names
    spoken = await connection.client.call_tool("speak", {"text": STORY, "voice": name})
    plain = await connection.client.call_tool("speak", {"text": STORY})
    assert sound_of(spoken, "mp3").rms > SILENCE_RMS
    assert spoken.content[0] != plain.content[0]


async def test_voices_of_a_language_include_the_engines_own(connection: Connection) -> None:
    listed = json.loads(await call(connection, "list_voices", language="fr"))
    assert "roa/fr" in [voice["voice"] for voice in listed]


async def test_status_tells_of_each_engine(connection: Connection) -> None:
    engines = {each["engine"]: each for each in json.loads(await call(connection, "status"))}
    assert engines["espeak-ng"]["residence"] == "resident"
    assert engines["espeak-ng"]["used_bytes"] > 1 << 20
    assert engines["glm-tts"]["state"] == "absent"


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("speak", {"text": "Hi", "voice": "nobody"}, "The voice 'nobody' does not exist"),
        ("speak", {"text": " "}, "there is nothing to speak"),
        ("speak", {"text": "Hi", "speed": 9}, "speed: "),
        ("speak", {"text": "Hi", "volume": 9}, "unknown field `volume`"),
        ("speak", {}, "'text'"),
        ("speak", {"text": "Hi", "path": "../out.wav"}, "outside the allowed folders"),
        ("speak", {"text": "Hi", "path": "/out.wav"}, "outside the allowed folders"),
        ("speak", {"text": "Hi", "path": "none/out.wav"}, "does not exist"),
        ("speak", {"text": "Hi", "path": "main.py"}, "must end in .mp3"),
        ("transcribe", {"path": "../../etc/passwd"}, "outside the allowed folders"),
        ("transcribe", {"path": "none.wav"}, "is not a file"),
        ("transcribe", {"audio": "aGVsbG8="}, "not an audio file"),
        ("transcribe", {"audio": "https://a.example/b.wav"}, "audio: Invalid base64"),
        ("transcribe", {}, "give either path or audio"),
        ("transcribe", {"audio": "aGVsbG8=", "path": "a.wav"}, "give either path or audio"),
        ("add_voice", {"name": "Eve", "audio": "aGVsbG8="}, "not an audio file"),
    ],
)
async def test_failure_is_an_error_that_says_why(
    connection: Connection, tool: str, arguments: dict[str, object], says: str
) -> None:
    assert says in await refusal(connection, tool, **arguments)


async def test_file_is_replaced_only_if_that_is_asked_for(connection: Connection) -> None:
    path = connection.folder / "precious.wav"
    path.write_bytes(b"precious")
    said = {"text": "Hi", "path": path.name}
    assert "exists" in await refusal(connection, "speak", **said)
    assert path.read_bytes() == b"precious"
    await call(connection, "speak", **said, overwrite=True)
    assert path.read_bytes().startswith(b"RIFF")


async def test_unknown_tool_is_an_error_of_the_protocol(connection: Connection) -> None:
    with pytest.raises(MCPError, match="no such tool"):
        await connection.client.call_tool("shell", {})


async def test_cancelled_call_ends_its_job(connection: Connection) -> None:
    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        scope.cancel()

    with anyio.fail_after(TIMEOUT_S), anyio.CancelScope() as scope:
        await connection.client.call_tool("speak", {"text": BOOK}, progress_callback=on_progress)
    assert scope.cancelled_caught
    with anyio.fail_after(5):  # to speak all of it takes longer
        while await jobs(connection):
            await anyio.lowlevel.checkpoint()


async def jobs(connection: Connection) -> int:
    """That the engine works on."""
    engines = {each["engine"]: each for each in json.loads(await call(connection, "status"))}
    return int(engines["espeak-ng"]["jobs"])


async def test_voice_of_one_key_is_unknown_to_another(server: tuple[ServerProcess, Path]) -> None:
    sample = base64.b64encode(recording(hz=150)).decode()
    arguments = {"name": "Secret", "audio": sample, "text": "A canoe"}
    async with Client(over_http(server[0], "key-one")) as client:
        assert not (await client.call_tool("add_voice", arguments)).is_error
    async with Client(over_http(server[0], "key-two")) as client:
        assert "Secret" not in text_of(await client.call_tool("list_voices", {}))
        assert (await client.call_tool("speak", {"text": "Hi", "voice": "Secret"})).is_error


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer key-none"}])
def test_without_a_key_nothing_is_told(
    server: tuple[ServerProcess, Path], headers: dict[str, str]
) -> None:
    url = f"{server[0].base_url}/mcp"
    answer = httpx.post(url, json=INITIALIZE, headers={**ACCEPT, **headers})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_session_of_one_key_is_not_found_by_another(server: tuple[ServerProcess, Path]) -> None:
    url = f"{server[0].base_url}/mcp"
    mine = {**ACCEPT, "authorization": "Bearer key-one"}
    opened = httpx.post(url, json=INITIALIZE, headers=mine)
    assert opened.status_code == 200
    assert opened.headers["x-request-id"].startswith("req_")
    session = {"mcp-session-id": opened.headers["mcp-session-id"]}
    statuses = [
        httpx.post(url, json=PING, headers={**ACCEPT, **session, "authorization": each}).status_code
        for each in ("Bearer key-two", "Bearer key-one")
    ]
    assert statuses == [404, 200]


def app_client(mcp: McpSettings | None = None, **settings: Any) -> TestClient[Any]:
    chosen = Settings(mcp=mcp or McpSettings(), **settings)
    return TestClient(
        create_app(chosen, Engines({"espeak-ng": FakeEngine()})), base_url="http://127.0.0.1:8000"
    )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "evil.example"}, 421),
        ({"host": "speech.lan:8000"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "https://app.example"}, 200),
        ({"content-type": "text/plain"}, 400),
    ],
)
def test_page_that_was_not_let_in_cannot_call(headers: dict[str, str], status: int) -> None:
    mcp = McpSettings(allowed_hosts=("speech.lan:*",))
    with app_client(mcp, cors_origins=("https://app.example",)) as client:
        answer = client.post("/mcp", json=INITIALIZE, headers={**ACCEPT, **headers})
    assert answer.status_code == status


def test_request_that_is_too_large_is_refused() -> None:
    with app_client(McpSettings(request_bytes=100)) as client:
        assert client.post("/mcp", json=INITIALIZE, headers=ACCEPT).status_code == 413


def test_there_is_no_stream_to_keep_a_server_from_ending() -> None:
    with app_client() as client:
        answer = client.get("/mcp", headers={"accept": "text/event-stream"})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST, DELETE"


def test_without_the_extra_it_is_said_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("server.mcp.endpoint.find_spec", lambda _: None)
    with app_client() as client:
        answer = client.post("/mcp", json=INITIALIZE, headers=ACCEPT)
        assert client.get("/health").status_code == 200
    assert answer.status_code == 501
    assert "pip install 'rhapsode[mcp]'" in answer.json()["error"]["message"]
    assert main(["mcp"]) == 1
    error = capsys.readouterr().err
    assert "pip install 'rhapsode[mcp]'" in error
    assert error.count("\n") == 1


def test_server_that_nobody_asks_for_tools_does_not_load_them() -> None:
    code = (
        "import sys; from server.app import *; from server.settings import Settings;"
        "create_app(Settings(), create_pools(Settings()));"
        "print({name.partition('.')[0] for name in sys.modules} & {'mcp', 'mcp_types'})"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert loaded.stdout.strip() == b"set()"


def test_standard_output_holds_the_protocol_alone(tmp_path: Path) -> None:
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "server.cli", "mcp", "--set", "log_level=DEBUG"]
    done = subprocess.run(
        command,
        input=json.dumps(INITIALIZE).encode() + b"\n",
        cwd=ROOT,
        env=env,
        capture_output=True,
        check=True,
    )
    (answer,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert answer["result"]["serverInfo"]["name"] == "rhapsode"
    assert b"event=" in done.stderr


def test_traces_without_a_place_for_them_are_said_in_one_line(tmp_path: Path) -> None:
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path), "RHAPSODE_TRACING": "true"}
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        env.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "server.cli", "mcp"],
        cwd=ROOT, env=env, capture_output=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"tracing_endpoint" in done.stderr


def test_folder_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "server.cli", "mcp", "--set", "log_level=ERROR"]
    folder = ["--folder", str(tmp_path / "none")]
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    done = subprocess.run(
        [*command, *folder], cwd=ROOT, env=env, capture_output=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"none is not a folder" in done.stderr
