"""A voice is cloned by GLM-TTS, from upload to mp3: on tiny made-up weights, which give noise."""

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import openai
import pytest
from openai import OpenAI

from compat_tests.audio import FORMATS, PCM_BYTES_PER_S, Format, decode
from compat_tests.conftest import API_KEY
from compat_tests.events import audio_of, events_of
from compat_tests.process import ServerProcess, engine_states
from compat_tests.recordings import wav
from compat_tests.texts import FIVE_SECONDS, SENTENCE

ENGINE = "glm-tts"
TOKENS_PER_BYTE = 1.5
"""25 tokens are a second; a byte of the text is a token of it, as the weights are made up."""
SETTINGS = f"""
[engines.whisper]
enabled = false
[engines.{ENGINE}]
devices = ["cpu"]
[engines.{ENGINE}.options]
random_weights = 1
size = "tiny"
min_tokens_per_text_token = {TOKENS_PER_BYTE - 0.01}
max_tokens_per_text_token = {TOKENS_PER_BYTE}
"""
TEXT = "Good morning to you all."
DURATION_S = len(TEXT) * TOKENS_PER_BYTE / 25
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def cloning(
    server_factory: Callable[[Mapping[str, str]], ServerProcess],
    tmp_path_factory: pytest.TempPathFactory,
) -> ServerProcess:
    path = tmp_path_factory.mktemp("config") / "rhapsode.toml"
    path.write_text(SETTINGS)
    # A second thread has little to do in so small a model, and spins where others want the core.
    return server_factory({"RHAPSODE_CONFIG": str(path), "OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def sdk(cloning: ServerProcess) -> Iterator[OpenAI]:
    url = f"{cloning.base_url}/v1"
    with OpenAI(base_url=url, api_key=API_KEY, max_retries=0, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture(scope="module")
def recording(cloning: ServerProcess) -> bytes:
    """Five seconds of the embedded engine, as a wave file."""
    request = {"model": "espeak-ng", "voice": "onyx", "input": FIVE_SECONDS}
    url = f"{cloning.base_url}/v1/audio/speech"
    answer = httpx.post(url, json={**request, "response_format": "wav"}, timeout=TIMEOUT_S)
    clip = decode(answer.raise_for_status().content, "wav")
    return wav(clip.samples, clip.sample_rate)


@pytest.fixture(scope="module")
def voice(cloning: ServerProcess, recording: bytes) -> str:
    """The id of a voice that was uploaded."""
    answer = httpx.post(
        f"{cloning.base_url}/v1/audio/voices",
        files={"audio_sample": ("voice.wav", recording, "audio/wav")},
        data={"name": "Harbour", "prompt_text": FIVE_SECONDS},
        timeout=TIMEOUT_S,
    )
    found: str = answer.raise_for_status().json()["id"]
    return found


def speak(
    sdk: OpenAI, voice: str, response_format: Format = "pcm", seed: int = 1, **fields: object
) -> bytes:
    answer = sdk.audio.speech.create(
        model=ENGINE,
        voice=voice,
        input=TEXT,
        response_format=response_format,
        extra_body={"seed": seed, **fields},
    )
    return answer.content


@pytest.fixture(scope="module")
def said(sdk: OpenAI, voice: str) -> bytes:
    """TEXT in that voice, seed 1."""
    return speak(sdk, voice)


def samples(pcm: bytes) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return np.frombuffer(pcm, np.int16)


def test_engine_is_listed_for_what_it_is(cloning: ServerProcess) -> None:
    assert engine_states(cloning.base_url)[ENGINE]["state"] == "ready"
    model = httpx.get(f"{cloning.base_url}/v1/models/{ENGINE}").json()
    assert model["clones_voices"] is True
    assert "noise, not speech" in model["description"]
    assert {"seed", "strategy", "temperature", "top_k", "top_p"} <= set(model["honours"])


def test_it_answers_for_the_aliases(sdk: OpenAI) -> None:
    answer = sdk.audio.speech.with_raw_response.create(model="tts-1", voice="alloy", input="Hello.")
    assert answer.headers["x-rhapsode-engine"] == ENGINE
    assert answer.headers["x-rhapsode-voice"] == "cloned"


@pytest.mark.parametrize("response_format", FORMATS)
def test_a_stored_voice_speaks_in_every_format(
    sdk: OpenAI, voice: str, response_format: Format
) -> None:
    clip = decode(speak(sdk, voice, response_format), response_format)
    assert abs(clip.duration_s - DURATION_S) < 0.15
    assert clip.rms > 0.005


def test_a_seed_repeats_and_another_differs(sdk: OpenAI, voice: str, said: bytes) -> None:
    assert speak(sdk, voice) == said
    other = speak(sdk, voice, seed=2)
    assert len(other) == len(said)
    assert other != said


def test_strategies_differ(sdk: OpenAI, voice: str, said: bytes) -> None:
    clips = {speak(sdk, voice, strategy=name) for name in ("fast", "balanced", "quality")}
    assert len(clips) == 3
    assert said in clips


def test_audio_comes_while_the_rest_is_still_drawn(cloning: ServerProcess, voice: str) -> None:
    request = {"model": ENGINE, "voice": voice, "input": f"{SENTENCE} {SENTENCE}"}
    url = f"{cloning.base_url}/v1/audio/speech"
    body = {**request, "response_format": "pcm", "seed": 3}
    with httpx.stream("POST", url, json=body, timeout=TIMEOUT_S) as answer:
        sizes = [len(chunk) for chunk in answer.iter_raw()]
    first, total_s = sizes[0] / PCM_BYTES_PER_S, sum(sizes) / PCM_BYTES_PER_S
    # A block of 25 tokens, less what the vocoder holds back; not the whole text.
    assert first < 1.0 < total_s
    assert len(sizes) > 3


def test_events_carry_the_same_audio(cloning: ServerProcess, voice: str, said: bytes) -> None:
    body = {"model": ENGINE, "voice": voice, "input": TEXT, "seed": 1, "response_format": "pcm"}
    url = f"{cloning.base_url}/v1/audio/speech"
    with httpx.stream(
        "POST", url, json={**body, "stream_format": "sse"}, timeout=TIMEOUT_S
    ) as answer:
        events = events_of(answer.iter_lines())
    assert audio_of(events) == said


def test_a_voice_sent_along_is_the_stored_one(sdk: OpenAI, recording: bytes, said: bytes) -> None:
    encoded = base64.b64encode(recording).decode()
    alike = speak(sdk, "any", ref_audio=encoded, ref_text=FIVE_SECONDS)
    assert alike == said


def test_another_recording_is_another_voice(sdk: OpenAI, said: bytes) -> None:
    assert len({said, speak(sdk, "alloy"), speak(sdk, "nova")}) == 3


def test_crowd_of_streams_says_what_each_says_alone(cloning: ServerProcess, sdk: OpenAI) -> None:
    voices = ["alloy", "nova", "onyx", "sage"]
    alone = [speak(sdk, name, seed=index) for index, name in enumerate(voices)]
    url = f"{cloning.base_url}/v1/audio/speech"
    base = {"model": ENGINE, "input": TEXT, "response_format": "pcm"}
    with httpx.Client(timeout=TIMEOUT_S) as client, ThreadPoolExecutor(len(voices)) as threads:
        together = threads.map(
            lambda pair: client.post(url, json={**base, "voice": pair[1], "seed": pair[0]}).content,
            enumerate(voices),
        )
        assert list(together) == alone


def test_a_voice_that_nobody_knows_is_refused(sdk: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        speak(sdk, "nobody-knows")
    assert refused.value.code == "voice_not_found"


def test_text_without_a_word_is_refused(sdk: OpenAI, voice: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.audio.speech.create(model=ENGINE, voice=voice, input="?!")
    assert refused.value.param == "input"


def test_file_upload_by_the_sdk_makes_a_voice(sdk: OpenAI, recording: bytes) -> None:
    if not hasattr(sdk.audio, "voices"):
        pytest.skip("this SDK knows no voices")
    made = sdk.audio.voices.create(
        name="By the SDK", audio_sample=("a.wav", io.BytesIO(recording), "audio/wav"), consent="x"
    )
    assert len(speak(sdk, made.id)) > 0
