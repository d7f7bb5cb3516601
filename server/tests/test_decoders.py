"""Uploads decoded in processes that can die. What they do is looked up in /proc."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from litestar import Litestar
from litestar.testing import TestClient

import server.app
from engine.errors import Overloaded, WorkerUnavailable
from engine.types import Samples
from server.app import create_app
from server.audio.decode import DecodeError, DecodeLimits, decode, decode_clip
from server.audio.decoder_process import AUDIO, END, HEADER, UNAVAILABLE
from server.audio.encoder import encode_whole
from server.audio.formats import ResponseFormat
from server.catalog import Engines
from server.decoders import Decoders
from server.settings import Settings
from server.tests.fakes import FakeEngine, FakeListener

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

RATE = 16_000
LIMITS = DecodeLimits()
_OUT_OF_MEMORY = "cannot be decoded|is damaged"
"""It is FFmpeg that runs out of it first, or Python: what is said depends on where."""


def recording(seconds: int, response_format: ResponseFormat = "wav") -> bytes:
    noise = np.random.default_rng(seconds).uniform(-0.5, 0.5, seconds * 24_000)
    return encode_whole(response_format, noise.astype(np.float32))


async def decoded(decoders: Decoders, data: bytes, limits: DecodeLimits = LIMITS) -> Samples:
    blocks = decoders.decode(io.BytesIO(data), RATE, limits)
    return np.concatenate([block async for block, _ in blocks])


def children(pid: int | None) -> list[int]:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return list(map(int, found))


def told_of(pid: int | None, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def state(pid: int) -> str:
    return told_of(pid, "stat").rpartition(") ")[2][0]


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - another process sets no Event
            await asyncio.sleep(0)


async def none_left(parent: int | None) -> None:
    await until(lambda: not children(parent))


@pytest.fixture
async def decoders() -> AsyncGenerator[Decoders, None]:
    async with Decoders(4) as each:
        yield each


@pytest.mark.parametrize("response_format", ["wav", "mp3", "opus"])
async def test_blocks_are_those_that_are_decoded_in_this_process(
    decoders: Decoders, response_format: ResponseFormat
) -> None:
    data = recording(5, response_format)
    here = np.concatenate(list(decode(io.BytesIO(data), RATE)))
    np.testing.assert_array_equal(await decoded(decoders, data), here)


async def test_clip_comes_in_one_piece_at_its_own_rate(decoders: Decoders) -> None:
    data = recording(3)
    samples, rate = await decoders.decode_clip(io.BytesIO(data), LIMITS)
    here, here_rate = decode_clip(io.BytesIO(data), LIMITS)
    assert rate == here_rate == 24_000
    np.testing.assert_array_equal(samples, here)


async def test_file_on_disk_is_not_copied_and_keeps_its_place(
    decoders: Decoders, tmp_path: Path
) -> None:
    path = tmp_path / "long.wav"
    path.write_bytes(recording(60))
    with path.open("rb") as file:
        async with aclosing(decoders.decode(file, RATE, LIMITS)) as blocks:
            await anext(blocks)
            place = os.lseek(file.fileno(), 0, os.SEEK_CUR)
            assert sum([len(block) async for block, _ in blocks]) > 58 * RATE
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == place


@pytest.mark.parametrize(
    ("data", "limits", "message"),
    [
        (b"", LIMITS, "the file is empty"),
        (b"Dear diary. " * 100, LIMITS, "not an audio file"),
        (recording(3), DecodeLimits(max_duration_s=2), "longer than 2 s"),
    ],
)
async def test_refusal_arrives_in_its_own_words(
    decoders: Decoders, data: bytes, limits: DecodeLimits, message: str
) -> None:
    with pytest.raises(DecodeError, match=message):
        await decoded(decoders, data, limits)
    await none_left(decoders.pid)


async def test_damaged_files_end_in_audio_or_in_a_decode_error(decoders: Decoders) -> None:
    random = np.random.default_rng(7)
    sound = [recording(1, name) for name in ("mp3", "opus", "aac", "flac", "wav")]
    for turn in range(25):
        data = bytearray(sound[turn % len(sound)])
        for at in random.integers(0, len(data), 20):
            data[at] = random.integers(256)
        with suppress(DecodeError):
            await decoded(decoders, bytes(data), DecodeLimits(max_duration_s=20))
    await none_left(decoders.pid)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
async def test_crash_costs_its_own_recording_only(
    decoders: Decoders, number: signal.Signals
) -> None:
    data = recording(60, "mp3")
    async with (
        aclosing(decoders.decode(io.BytesIO(data), RATE, LIMITS)) as hostile,
        aclosing(decoders.decode(io.BytesIO(data), RATE, LIMITS)) as sound,
    ):
        await anext(hostile)
        (victim,) = children(decoders.pid)
        await anext(sound)
        os.kill(victim, number)
        with pytest.raises(DecodeError, match="cannot be decoded"):
            async for _ in hostile:
                pass
        assert sum([len(block) async for block, _ in sound]) > 58 * RATE
    await none_left(decoders.pid)


async def test_decoder_that_hangs_is_ended(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = decoders.decode(io.BytesIO(recording(60)), RATE, LIMITS)
    await anext(blocks)
    (victim,) = children(decoders.pid)
    os.kill(victim, signal.SIGSTOP)
    monkeypatch.setattr(decoders, "_stall_s", 0.05)
    with pytest.raises(DecodeError, match="cannot be decoded"):
        async for _ in blocks:
            pass
    await none_left(decoders.pid)


async def test_decoder_that_wants_too_much_memory_is_refused_it() -> None:
    async with Decoders(4, memory_bytes=1 << 20) as decoders:
        with pytest.raises(DecodeError, match=_OUT_OF_MEMORY):
            await decoded(decoders, recording(60, "flac"))
        assert decoders.pid is not None


async def test_decoder_waits_for_who_reads_it(decoders: Decoders) -> None:
    blocks = decoders.decode(io.BytesIO(recording(120)), RATE, LIMITS)
    first, _ = await anext(blocks)
    (child,) = children(decoders.pid)
    await until(lambda: state(child) == "S")
    os.kill(child, signal.SIGKILL)
    sizes = [len(first)]

    async def read_all() -> None:
        async for block, _ in blocks:
            sizes.append(len(block))

    with pytest.raises(DecodeError):
        await read_all()
    assert sum(sizes) < 30 * RATE


async def test_who_leaves_ends_the_decoder(decoders: Decoders) -> None:
    blocks = decoders.decode(io.BytesIO(recording(60)), RATE, LIMITS)
    await anext(blocks)
    assert len(children(decoders.pid)) == 1
    await blocks.aclose()
    await none_left(decoders.pid)


async def test_cancel_while_it_waits_for_a_block_ends_the_decoder(decoders: Decoders) -> None:
    blocks = decoders.decode(io.BytesIO(recording(60)), RATE, LIMITS)
    await anext(blocks)
    (child,) = children(decoders.pid)
    os.kill(child, signal.SIGSTOP)

    async def read_all() -> None:
        async for _ in blocks:
            pass

    reading = asyncio.create_task(read_all())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await none_left(decoders.pid)


async def test_more_recordings_than_may_be_open_are_refused() -> None:
    async with Decoders(1) as decoders:
        blocks = decoders.decode(io.BytesIO(recording(2)), RATE, LIMITS)
        await anext(blocks)
        with pytest.raises(Overloaded):
            await decoded(decoders, recording(2))
        await blocks.aclose()
        assert len(await decoded(decoders, recording(2))) == 2 * RATE


async def test_lost_parent_is_no_fault_of_the_file_and_is_replaced(decoders: Decoders) -> None:
    blocks = decoders.decode(io.BytesIO(recording(60)), RATE, LIMITS)
    await anext(blocks)
    parent = decoders.pid
    assert parent is not None
    os.kill(parent, signal.SIGKILL)
    with pytest.raises(WorkerUnavailable):
        async for _ in blocks:
            pass
    assert len(await decoded(decoders, recording(1))) == RATE
    assert decoders.pid != parent


async def test_nothing_secret_is_in_their_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RHAPSODE_API_KEYS", "sk-not-for-them")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nor-this")
    async with Decoders(1) as decoders:
        await decoded(decoders, recording(1))
        environ = told_of(decoders.pid, "environ")
    names = {line.partition("=")[0] for line in environ.split("\0") if line}
    assert names <= {
        *("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH"),
        *("OPENBLAS_NUM_THREADS", "RHAPSODE_LOG_FORMAT"),
    }


async def test_decoder_is_confined(decoders: Decoders) -> None:
    blocks = decoders.decode(io.BytesIO(recording(60)), RATE, LIMITS)
    await anext(blocks)
    (child,) = children(decoders.pid)
    limits = told_of(child, "limits").splitlines()
    closed = ("Max open files", "Max file size", "Max core file size", "Max processes")
    rows = [line for line in limits if line.startswith(closed)]
    assert [line[26:].split()[:2] for line in rows] == [["0", "0"]] * len(closed)
    assert "NoNewPrivs:\t1" in told_of(child, "status")
    await blocks.aclose()


def test_confined_process_opens_no_file_and_no_socket() -> None:
    code = """
import socket
from server.audio.sandbox import confine
confine(10, 256 << 20)
for attempt in (lambda: open("/etc/hostname"), socket.socket):
    try:
        attempt()
    except OSError as exc:
        print(exc.errno)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["24", "24"]


async def test_stop_leaves_no_process() -> None:
    decoders = Decoders(4)
    blocks = decoders.decode(io.BytesIO(recording(60)), RATE, LIMITS)
    await anext(blocks)
    parent = decoders.pid
    assert parent is not None
    (child,) = children(parent)
    await decoders.stop()
    assert decoders.pid is None
    assert not is_there(parent)
    await until(lambda: not is_there(child) or state(child) == "Z")
    with pytest.raises(WorkerUnavailable):
        async for _ in blocks:
            pass


def frame(kind: bytes, payload: bytes = b"", rate: int = RATE) -> bytes:
    return HEADER.pack(kind, rate, len(payload)) + payload


@pytest.mark.parametrize(
    "frames",
    [
        frame(AUDIO, np.full(10, np.nan, np.float32).tobytes()),
        frame(AUDIO, np.full(10, 2, np.float32).tobytes()),
        frame(AUDIO, bytes(40), rate=8_000),
        frame(AUDIO, bytes(41)),
        frame(AUDIO),
        frame(AUDIO, bytes(4 * RATE)) * 4 + frame(END),
        HEADER.pack(AUDIO, RATE, 0xFFFF_FFFF),
        frame(b"?"),
        b"short",
    ],
)
async def test_decoder_that_was_taken_over_is_not_believed(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch, frames: bytes
) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    async def begin(*_: object) -> socket.socket:
        return ours

    monkeypatch.setattr(decoders, "_begin", begin)
    reading = asyncio.create_task(decoded(decoders, b"", DecodeLimits(max_duration_s=2)))
    with theirs, suppress(BrokenPipeError):
        await asyncio.to_thread(theirs.sendall, frames)
    with pytest.raises(DecodeError, match="cannot be decoded"):
        await reading


async def test_want_of_processes_is_no_fault_of_the_file(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    async def begin(*_: object) -> socket.socket:
        return ours

    monkeypatch.setattr(decoders, "_begin", begin)
    with theirs:
        theirs.sendall(frame(UNAVAILABLE))
        with pytest.raises(WorkerUnavailable):
            await decoded(decoders, b"")


@pytest.fixture(autouse=True)
def shared_decoders(all_decoders: Decoders) -> None:
    """None are shared here: what becomes of them is what is tested."""
    asyncio.run(all_decoders.stop())


def our_decoders() -> list[int]:
    pids = []
    for task in Path("/proc/self/task").iterdir():
        for pid in map(int, (task / "children").read_text().split()):
            if b"server.audio.decoder_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                pids.append(pid)  # noqa: PERF401 - reads better
    return pids


def client() -> TestClient[Litestar]:
    engines = Engines({"espeak-ng": FakeEngine()}, {"pocketsphinx": FakeListener()})
    return TestClient(create_app(Settings(), engines))


def test_server_ends_with_its_decoders() -> None:
    with client() as each:
        files = {"file": ("a.wav", recording(1))}
        answer = each.post("/v1/audio/transcriptions", files=files, data={"model": "whisper-1"})
        assert answer.status_code == 200
        assert len(our_decoders()) == 1
    assert our_decoders() == []


def test_file_that_kills_its_decoder_is_answered_400(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.app, "Decoders", partial(Decoders, memory_bytes=1 << 20))
    with client() as each:
        files = {"file": ("a.flac", recording(60, "flac"))}
        answer = each.post("/v1/audio/transcriptions", files=files, data={"model": "whisper-1"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "file"
    assert re.search(_OUT_OF_MEMORY, answer.json()["error"]["message"])
