"""Clients that leave, workers that die, and others at the same time."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from openai import APIError, InternalServerError, OpenAI

from compat_tests.audio import Clip
from compat_tests.conftest import API_KEY, TIMEOUT_S
from compat_tests.envelope import assert_error_body, assert_sdk_error
from compat_tests.process import ServerProcess, engine_states, has_recovered, running_jobs
from compat_tests.recordings import encode, joined, silence
from compat_tests.texts import STORY, WEATHER, share_heard
from compat_tests.waiting import wait_for
from compat_tests.wire import connect, upload

ENGINE = "pocketsphinx"
FREED_WITHIN_S = 1.0
RECOVERED_WITHIN_S = 10.0


@pytest.fixture(scope="module")
def fragile(server_factory: Callable[[Mapping[str, str]], ServerProcess]) -> ServerProcess:
    """A server whose worker the tests of this module kill."""
    return server_factory({"RHAPSODE_ENGINES__WHISPER__ENABLED": "false"})


@pytest.fixture
def client(fragile: ServerProcess) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=f"{fragile.base_url}/v1", api_key=API_KEY, max_retries=0, timeout=TIMEOUT_S
    ) as sdk:
        yield sdk


@pytest.fixture(scope="module")
def long_file(weather: Clip) -> tuple[str, bytes]:
    """Two minutes of sentences with pauses between: more than ten seconds of work."""
    sentence = joined(weather, silence(0.8, weather.sample_rate))
    return "long.flac", encode(joined(*[sentence] * 50), "flac")


@pytest.fixture
def assert_freed(fragile: ServerProcess, client: OpenAI, weather_wav: bytes) -> Callable[[], None]:
    """Check that no job runs any more, and that the next one is done."""

    def check() -> None:
        wait_for(lambda: running_jobs(fragile.base_url) == 0, FREED_WITHIN_S, "no job is left")
        quick = client.with_options(timeout=5.0)
        answer = quick.audio.transcriptions.create(model="whisper-1", file=weather_wav)
        assert share_heard(WEATHER, answer.text) > 0.5

    assert running_jobs(fragile.base_url) == 0
    return check


def test_leaving_in_the_middle_of_a_stream_frees_the_worker(
    fragile: ServerProcess,
    client: OpenAI,
    long_file: tuple[str, bytes],
    assert_freed: Callable[[], None],
) -> None:
    with client.audio.transcriptions.create(
        model="whisper-1", file=long_file, stream=True
    ) as stream:
        assert next(stream).type == "transcript.text.delta"
        assert running_jobs(fragile.base_url) == 1
    assert_freed()


def test_leaving_before_the_answer_frees_the_worker(
    fragile: ServerProcess, long_file: tuple[str, bytes], assert_freed: Callable[[], None]
) -> None:
    with connect(fragile.base_url) as connection:
        connection.sendall(upload(fragile.base_url, long_file[1]))
        wait_for(lambda: running_jobs(fragile.base_url) == 1, 5.0, "its job runs")
    assert_freed()


def test_leaving_in_the_middle_of_an_upload_starts_no_job(
    fragile: ServerProcess, long_file: tuple[str, bytes], assert_freed: Callable[[], None]
) -> None:
    with connect(fragile.base_url) as connection:
        connection.sendall(upload(fragile.base_url, long_file[1])[:-1000])
    assert_freed()


def test_a_short_recording_does_not_wait_for_a_long_one(
    fragile: ServerProcess,
    client: OpenAI,
    long_file: tuple[str, bytes],
    weather_wav: bytes,
    assert_freed: Callable[[], None],
) -> None:
    with client.audio.transcriptions.create(
        model="whisper-1", file=long_file, stream=True
    ) as stream:
        assert next(stream)
        quick = client.with_options(timeout=8.0)
        answer = quick.audio.transcriptions.create(model="whisper-1", file=weather_wav)
        assert share_heard(WEATHER, answer.text) > 0.5
        assert running_jobs(fragile.base_url) == 1
    assert_freed()


def test_recordings_side_by_side_keep_their_own_words(
    client: OpenAI, two_sentences: Clip, weather: Clip
) -> None:
    story = Clip(two_sentences.samples[len(weather.samples) :], weather.sample_rate, 1)
    files = [encode(clip, "wav") for clip in (weather, story)] * 3

    def text(file: bytes) -> str:
        return client.audio.transcriptions.create(model="whisper-1", file=file).text

    with ThreadPoolExecutor(6) as threads:
        texts = list(threads.map(text, files))
    assert len(set(texts)) == 2
    assert all(share_heard(WEATHER, heard) > 0.5 for heard in texts[::2])
    assert all(share_heard(STORY, heard) > 0.5 for heard in texts[1::2])


@pytest.fixture
def crashes_once(
    fragile: ServerProcess, assert_freed: Callable[[], None], client: OpenAI
) -> Iterator[None]:
    """During the test the worker dies: speech goes on, and listening comes back."""
    before = engine_states(fragile.base_url)[ENGINE]["restarts"]
    yield
    assert client.audio.speech.create(model="tts-1", voice="alloy", input="Hello.").content
    wait_for(
        lambda: has_recovered(fragile.base_url, ENGINE, before + 1),
        RECOVERED_WITHIN_S,
        "the worker is back",
    )
    assert_freed()


@pytest.mark.usefixtures("crashes_once")
def test_a_crash_is_a_server_error(
    fragile: ServerProcess, client: OpenAI, long_file: tuple[str, bytes]
) -> None:
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(client.audio.transcriptions.create, model="whisper-1", file=long_file)
        wait_for(lambda: running_jobs(fragile.base_url) == 1, 5.0, "its job runs")
        fragile.kill_worker(ENGINE)
        with pytest.raises(InternalServerError) as caught:
            call.result(TIMEOUT_S)
    assert caught.value.status_code == httpx.codes.INTERNAL_SERVER_ERROR
    assert_sdk_error(caught.value)


@pytest.mark.usefixtures("crashes_once")
def test_a_crash_in_a_stream_is_an_error_event(
    fragile: ServerProcess, client: OpenAI, long_file: tuple[str, bytes]
) -> None:
    with client.audio.transcriptions.create(
        model="whisper-1", file=long_file, stream=True
    ) as stream:
        assert next(stream)
        fragile.kill_worker(ENGINE)
        with pytest.raises(APIError) as caught:
            list(stream)
    assert type(caught.value) is APIError
    assert_error_body(caught.value.body)
    assert caught.value.type == "server_error"
