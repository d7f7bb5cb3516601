"""Which engine listens, how well it does, and what is said when there is none."""

from collections.abc import Callable

import httpx
import pytest
from openai import BadRequestError, InternalServerError, OpenAI

from compat_tests.conftest import API_KEY, TIMEOUT_S
from compat_tests.envelope import assert_sdk_error
from compat_tests.process import ServerProcess
from compat_tests.sdk import translations_deprecated
from compat_tests.texts import WEATHER, share_heard

EMBEDDED = "pocketsphinx"
ALIASES = (
    *("whisper-1", "gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"),
    *("gpt-4o-mini-transcribe-2025-12-15", "gpt-4o-transcribe-diarize"),
)


def test_the_embedded_engine_says_that_it_is_not_accurate(
    client: OpenAI, weather_wav: bytes
) -> None:
    raw = client.audio.transcriptions.with_raw_response.create(model=EMBEDDED, file=weather_wav)
    assert raw.headers["x-rhapsode-engine"] == EMBEDDED
    assert raw.headers["x-rhapsode-accuracy"] == "low"
    assert share_heard(WEATHER, raw.parse().text) > 0.5


def test_a_stream_names_its_engine_too(http: httpx.Client, weather_wav: bytes) -> None:
    form = {"model": EMBEDDED, "stream": "true"}
    files = {"file": ("a.wav", weather_wav)}
    answer = http.post("/v1/audio/transcriptions", data=form, files=files)
    assert answer.headers["x-rhapsode-engine"] == EMBEDDED


@pytest.mark.parametrize("model", ["gpt-transcribe", "gpt-4o-transcribe-diarize"])
def test_the_names_of_openai_listen(client: OpenAI, weather_wav: bytes, model: str) -> None:
    """The other tests use the oldest, whisper-1."""
    answer = client.audio.transcriptions.create(model=model, file=weather_wav)
    assert share_heard(WEATHER, answer.text) > 0.5


def test_models_tell_their_task_engine_and_accuracy(http: httpx.Client) -> None:
    models = {model["id"]: model for model in http.get("/v1/models").json()["data"]}
    assert models[EMBEDDED]["task"] == "transcription"
    assert models[EMBEDDED]["engine"] == EMBEDDED
    assert models[EMBEDDED]["accurate"] is False
    assert models["whisper"]["task"] == "transcription"
    assert models["tts-1"]["task"] == "speech"
    for alias in ALIASES:
        assert models[alias]["task"] == "transcription"
        assert models[alias]["engine"] in {EMBEDDED, "whisper"}


def test_the_embedded_engine_hears_english_alone(client: OpenAI, weather_wav: bytes) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.audio.transcriptions.create(model=EMBEDDED, file=weather_wav, language="fr")
    assert_sdk_error(caught.value, param="language")
    assert "fr" in caught.value.message


def test_the_embedded_engine_does_not_translate(client: OpenAI, weather_wav: bytes) -> None:
    with pytest.raises(BadRequestError) as caught, translations_deprecated():
        client.audio.translations.create(model=EMBEDDED, file=weather_wav)
    assert_sdk_error(caught.value, param="model")


@pytest.fixture(scope="module")
def deaf(configured_server: Callable[[str], ServerProcess]) -> ServerProcess:
    """A server without the embedded engine, whose whisper has no model."""
    return configured_server(
        '[engines.pocketsphinx]\nenabled = false\n[engines.whisper.options]\nmodel = "large-v1"\n'
    )


def test_without_a_model_the_answer_says_how_to_get_one(
    deaf: ServerProcess, weather_wav: bytes
) -> None:
    with (
        OpenAI(
            base_url=f"{deaf.base_url}/v1", api_key=API_KEY, max_retries=0, timeout=TIMEOUT_S
        ) as client,
        pytest.raises(InternalServerError) as caught,
    ):
        client.audio.transcriptions.create(model="whisper-1", file=weather_wav)
    assert caught.value.status_code == 503
    assert_sdk_error(caught.value)
    assert "rhapsode models pull" in caught.value.message
    assert int(caught.value.response.headers["retry-after"]) >= 1


def test_without_a_model_the_server_still_speaks(deaf: ServerProcess) -> None:
    assert httpx.get(f"{deaf.base_url}/ready").is_success
    request = {"model": "tts-1", "voice": "alloy", "input": "Hello."}
    assert httpx.post(f"{deaf.base_url}/v1/audio/speech", json=request).is_success
