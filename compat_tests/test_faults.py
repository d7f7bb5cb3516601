"""What breaks around a server: hung workers, full disks, spoilt files, settings, ports, models."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIConnectionError, OpenAI

from compat_tests.conftest import API_KEY, TIMEOUT_S
from compat_tests.envelope import assert_envelope
from compat_tests.process import (
    PYTHON,
    ROOT,
    ServerProcess,
    engine_states,
    is_ready,
    is_running,
)
from compat_tests.recordings import encode, silence
from compat_tests.sdk import BrokenBody
from compat_tests.texts import LONGEST, SENTENCE
from compat_tests.tiny_whisper import tiny_whisper
from compat_tests.waiting import wait_for

SPEECH = "/v1/audio/speech"
VOICES = "/v1/audio/voices"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
ENGINE = "espeak-ng"
REQUEST = {"model": ENGINE, "voice": "alloy", "input": SENTENCE, "response_format": "wav"}
WITHIN_S = 20.0

ServerFactory = Callable[[Mapping[str, str]], ServerProcess]


@pytest.fixture(scope="module")
def watchful(server_factory: ServerFactory) -> ServerProcess:
    """A server that soon loses patience with a worker."""
    return server_factory({"RHAPSODE_POOL__HANG_S": "2"})


def test_a_stopped_worker_is_told_by_ready_and_replaced(watchful: ServerProcess) -> None:
    (pid,) = watchful.workers(ENGINE)
    with (
        OpenAI(base_url=f"{watchful.base_url}/v1", api_key=API_KEY, max_retries=0) as client,
        client.audio.speech.with_streaming_response.create(
            model=ENGINE, voice="alloy", input=LONGEST, response_format="pcm", speed=0.25
        ) as response,
    ):
        body = response.iter_bytes()
        assert next(body)
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: not is_ready(watchful.base_url), WITHIN_S, "it is suspected")
        # What has been sent already may still be read: then it breaks.
        with pytest.raises((BrokenBody, APIConnectionError)):
            sum(len(chunk) for chunk in body)
    assert engine_states(watchful.base_url)[ENGINE]["state"] != "ready"
    wait_for(lambda: is_ready(watchful.base_url), WITHIN_S, "another has taken its place")
    assert engine_states(watchful.base_url)[ENGINE]["restarts"] == 1
    assert not is_running(pid)
    assert any("event=worker_hung" in line for line in watchful.lines())
    assert httpx.post(f"{watchful.base_url}{SPEECH}", json=REQUEST).status_code == httpx.codes.OK


def test_a_request_that_a_stopped_worker_never_answers_is_told_so(watchful: ServerProcess) -> None:
    (pid,) = watchful.workers(ENGINE)
    os.kill(pid, signal.SIGSTOP)
    answer = httpx.post(f"{watchful.base_url}{SPEECH}", json=REQUEST, timeout=TIMEOUT_S)
    assert_envelope(answer, 500, code="engine_died")
    wait_for(lambda: is_ready(watchful.base_url), WITHIN_S, "another has taken its place")


def take_in(server: ServerProcess, name: str) -> httpx.Response:
    spoken = httpx.post(f"{server.base_url}{SPEECH}", json=REQUEST, timeout=TIMEOUT_S)
    return httpx.post(
        f"{server.base_url}{VOICES}",
        data={"name": name, "ref_text": SENTENCE},
        files={"audio_sample": ("a.wav", spoken.content)},
        timeout=TIMEOUT_S,
    )


def own_voices(server: ServerProcess) -> set[str]:
    """The ids of voices that were taken in."""
    voices = httpx.get(f"{server.base_url}{VOICES}").raise_for_status().json()["voices"]
    return {voice["id"] for voice in voices if voice["id"].startswith("voice_")}


def test_spoilt_voices_leave_the_others(
    configured_server: Callable[[str], ServerProcess], tmp_path: Path
) -> None:
    toml = f'[voices]\nplace = "{tmp_path}"'
    server = configured_server(toml)
    voices = [take_in(server, name).json()["id"] for name in ("A", "B", "C", "Whole")]
    no_document, half_a_document, no_sound = (tmp_path / "voices" / each for each in voices[:3])
    files = sorted(path.name for path in no_document.iterdir())
    (document,) = [name for name in files if name.endswith(".json")]
    (sound,) = [name for name in files if name != document]
    (no_document / document).unlink()
    assert own_voices(server) == set(voices[1:])
    # The rest is found out by a server that has not seen them whole.
    assert server.stop() == 0
    (half_a_document / document).write_bytes((half_a_document / document).read_bytes()[:100])
    (no_sound / sound).unlink()
    server = configured_server(toml)
    assert own_voices(server) == {voices[3]}
    for voice, status in (voices[3], 200), (voices[2], 400):
        speech = {**REQUEST, "voice": voice}
        assert httpx.post(f"{server.base_url}{SPEECH}", json=speech).status_code == status


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if mount is None or unmount is None:
        pytest.skip("needs mount")
    tmpfs = [mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(tmpfs, stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("needs leave to mount a file system")
    yield folder
    subprocess.run([unmount, "--lazy", str(folder)], check=True)


def test_a_full_disk_refuses_new_voices_and_keeps_the_old(
    configured_server: Callable[[str], ServerProcess], small_disk: Path
) -> None:
    server = configured_server(f'[voices]\nplace = "{small_disk / "voices"}"')
    kept = take_in(server, "Kept").json()["id"]
    filler = small_disk / "filler"
    with filler.open("wb") as file, pytest.raises(OSError, match="No space"):
        file.write(bytes(4 << 20))
    assert_envelope(take_in(server, "Too much"), 507, code="store_full")
    assert own_voices(server) == {kept}
    speech = {**REQUEST, "voice": kept}
    assert httpx.post(f"{server.base_url}{SPEECH}", json=speech).status_code == httpx.codes.OK
    filler.unlink()
    assert take_in(server, "Room again").is_success


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a server that cannot start, to its end."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RHAPSODE_")}
    return subprocess.run(
        [PYTHON, "-m", "server.cli", "serve", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        (b"\xff\xfe\x00", "is not TOML"),
        (b"port = ", "is not TOML"),
        (b"prot = 1", "prot"),
        (b"port = 70000", "port"),
        (b"[pool]\nhang_s = -1", "hang_s"),
    ],
)
def test_settings_that_cannot_be_read_are_one_line(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "rhapsode.toml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    ended = serve("--config", str(path))
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("rhapsode: ")
    assert message in line


def test_a_port_that_is_taken_ends_the_server_with_one_error(own_server: ServerProcess) -> None:
    port = own_server.base_url.rpartition(":")[2]
    ended = serve("--port", port)
    assert ended.returncode not in (0, None)
    (line,) = [line for line in ended.stderr.splitlines() if "ERROR" in line]
    assert port in line
    assert "in use" in line
    assert is_ready(own_server.base_url)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tmp_path / "tiny"


@pytest.fixture
def listening(configured_server: Callable[[str], ServerProcess], model: Path) -> ServerProcess:
    """A server whose only recogniser reads its model from a folder that the test may change."""
    pool = "[pool]\nlook_again_s = 0.2\nrestart_delay_s = 0.2\nrestart_delay_max_s = 0.4"
    return configured_server(tiny_whisper(model) + pool)


def transcribe(server: ServerProcess) -> httpx.Response:
    file = encode(silence(1.0, 16_000), "wav")
    return httpx.post(
        f"{server.base_url}{TRANSCRIPTIONS}",
        data={"model": "whisper"},
        files={"file": ("a.wav", file)},
        timeout=TIMEOUT_S,
    )


def whisper(server: ServerProcess) -> dict[str, Any]:
    return engine_states(server.base_url)["whisper"]


def test_a_model_that_is_taken_away_is_missed_at_the_next_start_and_found_when_it_is_back(
    listening: ServerProcess, model: Path
) -> None:
    file, elsewhere = model / "model.bin", model.with_suffix(".bin")
    file.rename(elsewhere)
    assert transcribe(listening).status_code == httpx.codes.OK
    listening.kill_worker("whisper")
    wait_for(lambda: whisper(listening)["state"] == "absent", WITHIN_S, "it is missed")
    assert "model.bin" in whisper(listening)["error"]
    assert_envelope(transcribe(listening), 503)
    assert httpx.post(f"{listening.base_url}{SPEECH}", json=REQUEST).status_code == httpx.codes.OK
    elsewhere.rename(file)
    wait_for(lambda: whisper(listening)["state"] == "ready", WITHIN_S, "it is back")
    assert transcribe(listening).status_code == httpx.codes.OK


def test_a_model_that_was_spoilt_keeps_its_engine_from_starting_and_says_why(
    listening: ServerProcess, model: Path
) -> None:
    file = model / "model.bin"
    good = file.read_bytes()
    # Another file: the running worker may have mapped the old one.
    file.unlink()
    file.write_bytes(good[: len(good) // 2])
    assert transcribe(listening).status_code == httpx.codes.OK
    listening.kill_worker("whisper")
    # It is tried again and again, and does not get in the way of the others meanwhile.
    wait_for(lambda: whisper(listening)["restarts"] >= 2, WITHIN_S, "it is tried again")
    state = whisper(listening)
    assert state["state"] == "restarting"
    assert "does not load" in state["error"]
    assert not is_ready(listening.base_url)
    refused = transcribe(listening)
    assert_envelope(refused, 503)
    assert int(refused.headers["retry-after"]) >= 1
    assert httpx.post(f"{listening.base_url}{SPEECH}", json=REQUEST).status_code == httpx.codes.OK
    file.unlink()
    file.write_bytes(good)
    wait_for(lambda: is_ready(listening.base_url), WITHIN_S, "it has loaded")
    assert transcribe(listening).status_code == httpx.codes.OK


def test_a_worker_that_never_could_start_is_told_by_ready_and_the_others_work(
    tmp_path: Path,
) -> None:
    config = tmp_path / "rhapsode.toml"
    config.write_text(
        '[engines."engine.tests.fake:ToneSynthesizer"]\n'
        'options = {fail_load = "no weights: run this"}\n'
    )
    environment = {"RHAPSODE_CONFIG": str(config), "XDG_DATA_HOME": str(tmp_path)}
    server = ServerProcess(tmp_path / "log", environment)
    try:
        wait_for(
            lambda: _is_up(server) and engine_states(server.base_url)[ENGINE]["state"] == "ready",
            WITHIN_S,
            "the others are ready",
        )
        wait_for(
            lambda: sum("event=worker_restart" in line for line in server.lines()) >= 3,
            WITHIN_S,
            "it has been tried again",
        )
        broken = engine_states(server.base_url)["engine.tests.fake:ToneSynthesizer"]
        assert (broken["state"], broken["workers"]) == ("starting", 0)
        assert broken["error"] == "no weights: run this"
        assert not is_ready(server.base_url)
        assert httpx.post(f"{server.base_url}{SPEECH}", json=REQUEST).status_code == httpx.codes.OK
        restarts = [line for line in server.lines() if "event=worker_restart" in line]
        delays = [float(line.rpartition("delay_s=")[2]) for line in restarts]
        assert delays[:3] == [0.1, 0.2, 0.4]
    finally:
        assert server.stop() == 0


def _is_up(server: ServerProcess) -> bool:
    try:
        return httpx.get(f"{server.base_url}/health").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
