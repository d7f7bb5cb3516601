"""Voices by the official SDK: taken in, spoken with over a restart, and gone when deleted."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from compat_tests.audio import decode
from compat_tests.conftest import API_KEY, TIMEOUT_S
from compat_tests.process import ServerProcess

TEXT = "Good morning. How are you today? It is a fine day for a walk in the park."
VOICES = "/v1/audio/voices"

ServerFactory = Callable[[Mapping[str, str]], ServerProcess]

if not hasattr(openai.resources.audio, "Voices"):
    pytest.skip("this SDK knows no voices", allow_module_level=True)


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def keeper(server_factory: ServerFactory, data_folder: Path) -> ServerProcess:
    """A server with a store of its own."""
    return server_factory({"XDG_DATA_HOME": str(data_folder)})


@pytest.fixture
def sdk(keeper: ServerProcess) -> Iterator[OpenAI]:
    with connect(keeper) as client:
        yield client


def connect(server: ServerProcess) -> OpenAI:
    return OpenAI(
        base_url=f"{server.base_url}/v1", api_key=API_KEY, max_retries=0, timeout=TIMEOUT_S
    )


@pytest.fixture(scope="module")
def recording(keeper: ServerProcess) -> bytes:
    with connect(keeper) as client:
        return client.audio.speech.create(
            model="tts-1", voice="nova", input=TEXT, response_format="wav"
        ).content


def take_in(client: OpenAI, name: str, recording: bytes) -> str:
    """The id of a new voice."""
    voice = client.audio.voices.create(
        name=name,
        audio_sample=("prompt.wav", recording, "audio/wav"),
        consent="cons_unchecked",
        extra_body={"ref_text": TEXT},
    )
    assert voice.type == "audio_sample"
    assert voice.object == "audio.voice"
    assert voice.name == name
    return voice.id


def test_voice_is_spoken_with_by_id_and_by_name(sdk: OpenAI, recording: bytes) -> None:
    voice_id = take_in(sdk, "By name", recording)
    names: list[Any] = [{"id": voice_id}, voice_id, "By name", "by NAME"]
    for voice in names:
        raw = sdk.audio.speech.with_raw_response.create(
            model="tts-1", voice=voice, input="Hello there.", response_format="wav"
        )
        assert decode(raw.content, "wav").duration_s > 0.4
        assert raw.headers["x-rhapsode-voice"] == "followed"


def test_deleted_voice_is_gone(sdk: OpenAI, recording: bytes) -> None:
    voice_id = take_in(sdk, "Short-lived", recording)
    deleted = sdk.audio.voices.delete(voice_id)
    assert deleted.deleted is True
    assert deleted.id == voice_id
    with pytest.raises(openai.NotFoundError):
        sdk.audio.voices.delete(voice_id)
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.audio.speech.create(model="tts-1", voice={"id": voice_id}, input="Hello.")
    assert refused.value.param == "voice"


def test_voice_survives_a_restart(
    server_factory: ServerFactory, tmp_path: Path, recording: bytes
) -> None:
    place = {"XDG_DATA_HOME": str(tmp_path)}
    first = server_factory(place)
    with connect(first) as client:
        voice_id = take_in(client, "Lasting", recording)
    assert first.stop() == 0
    with connect(server_factory(place)) as client:
        clip = client.audio.speech.create(
            model="tts-1", voice={"id": voice_id}, input="Hello.", response_format="pcm"
        )
        assert len(clip.content) > 10_000


def test_running_speech_outlives_its_voice(sdk: OpenAI, recording: bytes) -> None:
    voice_id = take_in(sdk, "Fading", recording)
    with sdk.audio.speech.with_streaming_response.create(
        model="tts-1", voice={"id": voice_id}, input=TEXT * 20, response_format="pcm"
    ) as response:
        parts = response.iter_bytes(1024)
        heard = len(next(parts))
        sdk.audio.voices.delete(voice_id)
        heard += sum(map(len, parts))
    assert heard / 48_000 > 20


def test_name_is_taken_once_and_the_sdk_does_not_try_again(sdk: OpenAI, recording: bytes) -> None:
    take_in(sdk, "Only one", recording)
    with pytest.raises(openai.BadRequestError) as refused:
        take_in(sdk, "only ONE", recording)
    assert refused.value.param == "name"


def test_recording_that_is_none_names_its_field(sdk: OpenAI) -> None:
    for sample in (b"", b"not audio"):
        with pytest.raises(openai.BadRequestError) as refused:
            take_in(sdk, "Nobody", sample)
        assert refused.value.param == "audio_sample"


def test_list_is_what_open_webui_reads(
    keeper: ServerProcess, sdk: OpenAI, recording: bytes
) -> None:
    voice_id = take_in(sdk, "Listed", recording)
    body = httpx.get(f"{keeper.base_url}{VOICES}").json()
    names = {voice["id"]: voice["name"] for voice in body["voices"]}
    assert names[voice_id] == "Listed"
    assert names["alloy"] == "alloy"


def test_voices_are_not_made_from_descriptions(sdk: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.audio.voices.create(type="prompt", name="Calm", prompt="a calm voice")
    assert refused.value.param == "type"


def test_consents_live_and_their_pages_end(sdk: OpenAI, recording: bytes) -> None:
    consents = sdk.audio.voice_consents
    made = [
        consents.create(name=f"c{n}", language="en-US", recording=("c.wav", recording, "audio/wav"))
        for n in range(3)
    ]
    assert {each.id for each in consents.list(limit=1)} == {each.id for each in made}
    first = made[0].id
    assert consents.retrieve(first).name == "c0"
    assert consents.update(first, name="renamed").name == "renamed"
    assert consents.delete(first).deleted is True
    with pytest.raises(openai.NotFoundError):
        consents.retrieve(first)
