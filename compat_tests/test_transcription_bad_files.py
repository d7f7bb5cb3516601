"""What is not a recording is refused, soon and by name, and the server goes on."""

import time
from collections.abc import Callable, Iterator, Mapping

import httpx
import numpy as np
import pytest
from openai import APIStatusError, BadRequestError, OpenAI

from compat_tests.audio import Clip
from compat_tests.envelope import assert_envelope, assert_sdk_error
from compat_tests.process import ServerProcess, engine_states, running_jobs
from compat_tests.recordings import encode, encode_video, silence, wav
from compat_tests.texts import WEATHER, share_heard
from compat_tests.waiting import wait_for
from compat_tests.wire import FORM_TYPE, TRANSCRIPTIONS, connect, read_head, upload_head

DEADLINE_S = 5.0
UPLOAD_BYTES = 26_214_400
NOTHING = np.zeros(0, np.float32)


@pytest.fixture(autouse=True)
def goes_on(http: httpx.Client) -> Iterator[None]:
    """After each test: no job is left, no worker had to be restarted, and the server is ready."""
    base_url = str(http.base_url)
    before = {name: state["restarts"] for name, state in engine_states(base_url).items()}
    yield
    after = {name: state["restarts"] for name, state in engine_states(base_url).items()}
    assert after == before
    wait_for(lambda: running_jobs(base_url) == 0, 1.0, "no job is left")
    assert http.get("/ready").is_success


JUNK: dict[str, Callable[[Clip], bytes]] = {
    "empty.wav": lambda _: b"",
    "noise.mp3": lambda _: np.random.default_rng(1).bytes(100_000),
    "text.txt": lambda _: b"One two three, I am no recording.\n" * 100,
    "zeros.flac": lambda _: bytes(100_000),
    "only a header.wav": lambda _: wav(NOTHING, 16_000),
    "no samples.flac": lambda clip: encode(clip, "flac")[:42],
    "one byte.ogg": lambda _: b"O",
    "truncated.mp4": lambda clip: encode(clip, "mp4")[:-2000],
    "truncated film.mp4": lambda clip: encode_video(clip)[:-3000],
    "1 Hz.wav": lambda clip: wav(clip.samples, 1),
    "1 GHz.wav": lambda clip: wav(clip.samples, 10**9),
    "64 channels.wav": lambda clip: wav(clip.samples, 16_000, 64),
    "playlist.m3u8": lambda _: b"#EXTM3U\n#EXTINF:9,\n/etc/passwd\n",
    "list.ffconcat": lambda _: b"ffconcat version 1.0\nfile /etc/passwd\n",
    "picture.png": lambda _: b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "archive.zip": lambda _: b"PK\x03\x04" + bytes(1000),
}


@pytest.mark.parametrize("name", JUNK)
def test_what_is_no_recording_is_refused(client: OpenAI, weather: Clip, name: str) -> None:
    began = time.monotonic()
    with pytest.raises(BadRequestError) as caught:
        client.audio.transcriptions.create(model="whisper-1", file=(name, JUNK[name](weather)))
    assert time.monotonic() - began < DEADLINE_S
    assert_sdk_error(caught.value, param="file")


@pytest.mark.parametrize("url", [TRANSCRIPTIONS, "/v1/audio/translations"])
def test_a_form_without_a_file_is_refused(http: httpx.Client, url: str) -> None:
    files = {"model": (None, "whisper-1")}
    assert_envelope(http.post(url, files=files), 400, param="file")


def test_a_file_sent_as_text_is_no_file(http: httpx.Client) -> None:
    files = {"model": (None, "whisper-1"), "file": (None, "speech.wav")}
    assert_envelope(http.post(TRANSCRIPTIONS, files=files), 400, param="file")


@pytest.mark.parametrize("extension", ["mp3", "ogg", "webm", "wav"])
def test_a_recording_that_ends_too_soon_is_heard_or_refused(
    client: OpenAI, weather: Clip, extension: str
) -> None:
    """These formats can be read up to where they break off."""
    data = encode(weather, extension)
    half = (f"half.{extension}", data[: len(data) // 2])
    try:
        answer = client.audio.transcriptions.create(model="whisper-1", file=half)
    except BadRequestError as refusal:
        assert_sdk_error(refusal, param="file")
    else:
        assert share_heard(WEATHER, answer.text) > 0


@pytest.mark.parametrize("size", [UPLOAD_BYTES, 26 * 2**20 + 1])
def test_a_body_over_the_limit_is_too_large(client: OpenAI, size: int) -> None:
    """The whole body counts: a file as large as the limit is too large with its form."""
    with pytest.raises(APIStatusError) as caught:
        client.audio.transcriptions.create(model="whisper-1", file=bytes(size))
    assert type(caught.value) is APIStatusError
    assert caught.value.status_code == 413
    assert_sdk_error(caught.value)


def too_large() -> Iterator[bytes]:
    """A form that holds a file a megabyte over the limit, in pieces."""
    yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    for _ in range(UPLOAD_BYTES // 65_536 + 16):
        yield bytes(65_536)
    yield b"\r\n--b--\r\n"


def test_the_limit_holds_without_a_length(http: httpx.Client) -> None:
    headers = {"content-type": FORM_TYPE}
    assert_envelope(http.post(TRANSCRIPTIONS, content=too_large(), headers=headers), 413)


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_client_may_send_all_of_what_is_too_large(http: httpx.Client, is_chunked: bool) -> None:
    """One that writes to the end before it reads must find the answer, not a reset."""
    base_url = str(http.base_url)
    length = None if is_chunked else sum(map(len, too_large()))
    with connect(base_url) as connection, connection.makefile("rb") as stream:
        connection.sendall(upload_head(base_url, length))
        for piece in too_large():
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
        if is_chunked:
            connection.sendall(b"0\r\n\r\n")
        status, headers = read_head(stream)
    assert status == 413
    assert headers["content-type"].startswith("application/json")


def test_a_large_upload_under_the_limit_is_taken(client: OpenAI) -> None:
    """25 MB of silence, which is short since its rate is high and its channels many."""
    data = wav(np.zeros(192_000 * 8, np.float32), 192_000, channels=8)
    assert 24_000_000 < len(data) < UPLOAD_BYTES
    answer = client.audio.transcriptions.create(model="whisper-1", file=("big.wav", data))
    assert answer.text == ""


@pytest.fixture(scope="module")
def brief(server_factory: Callable[[Mapping[str, str]], ServerProcess]) -> ServerProcess:
    """A server that takes recordings of a minute."""
    return server_factory({"RHAPSODE_LIMITS__RECORDING_S": "60"})


def test_a_small_file_that_unpacks_to_much_is_refused(brief: ServerProcess) -> None:
    bomb = encode(silence(1800, 8_000), "flac")
    assert len(bomb) < 1800 * 8_000 * 2 / 50
    form = {"model": "whisper-1"}
    began = time.monotonic()
    answer = httpx.post(
        f"{brief.base_url}{TRANSCRIPTIONS}", data=form, files={"file": ("a.flac", bomb)}
    )
    assert time.monotonic() - began < DEADLINE_S
    assert_envelope(answer, 400, param="file")


def test_a_recording_over_the_limit_of_duration_is_refused(brief: ServerProcess) -> None:
    form = {"model": "whisper-1"}
    files = {"file": ("a.opus", encode(silence(61), "opus"))}
    answer = httpx.post(f"{brief.base_url}{TRANSCRIPTIONS}", data=form, files=files, timeout=20)
    assert_envelope(answer, 400, param="file")
    assert "60" in answer.json()["error"]["message"]


def test_text_and_file_are_never_logged(
    http: httpx.Client, own_server: ServerProcess, weather_wav: bytes
) -> None:
    form = {"model": "whisper-1", "prompt": "xylographic"}
    files = {"file": ("secret-name.wav", weather_wav)}
    answer = http.post(TRANSCRIPTIONS, data=form, files=files)
    assert answer.is_success
    request_id = answer.headers["x-request-id"]
    wait_for(lambda: any(request_id in line for line in own_server.lines()), 2.0, "it is logged")
    log = "\n".join(own_server.lines())
    for secret in ("xylographic", "secret-name", answer.json()["text"]):
        assert secret not in log
