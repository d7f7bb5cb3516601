"""What the server tells of its models and voices, to the SDK and to clients with their own ways."""

import httpx
import pytest
from openai import NotFoundError, OpenAI

from compat_tests.envelope import assert_envelope, assert_sdk_error


def test_models_are_listed_with_their_aliases(client: OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert {"tts-1", "tts-1-hd", "gpt-4o-mini-tts", "espeak-ng"} <= set(models)
    for model in models.values():
        assert model.object == "model"
        assert isinstance(model.created, int)
        assert model.owned_by


def test_the_list_is_an_openai_list(http: httpx.Client) -> None:
    answer = http.get("/v1/models").json()
    assert answer["object"] == "list"
    ids = [model["id"] for model in answer["data"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("model", ["tts-1", "espeak-ng"])
def test_a_listed_model_is_found_by_its_id(client: OpenAI, model: str) -> None:
    found = client.models.retrieve(model)
    assert found.id == model
    assert found.object == "model"
    assert found._request_id  # noqa: SLF001 - public, the SDK says


@pytest.mark.parametrize("model", ["nope", "org/model", "org/model/part"])
def test_an_unknown_model_is_not_found(client: OpenAI, model: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.models.retrieve(model)
    assert_sdk_error(caught.value, code="model_not_found")


def test_a_raw_slash_in_a_model_id_reaches_the_models(http: httpx.Client) -> None:
    """openai-python 1.x does not encode it."""
    assert_envelope(http.get("/v1/models/org/model"), 404, code="model_not_found")


def test_audio_models_are_listed_for_open_webui(http: httpx.Client) -> None:
    models = http.get("/v1/audio/models").json()["models"]
    assert {"tts-1", "espeak-ng"} <= {model["id"] for model in models}


def test_voices_are_listed_in_every_clients_way(http: httpx.Client) -> None:
    answer = http.get("/v1/audio/voices").json()
    assert answer["object"] == "list"
    assert answer["data"] == answer["voices"]
    assert answer["has_more"] is False
    assert answer["uploaded_voices"] == []
    for voice in answer["voices"]:
        assert voice["object"] == "audio.voice"
        assert isinstance(voice["created_at"], int)
        assert isinstance(voice["type"], str)


def test_open_webui_reads_the_voices(http: httpx.Client) -> None:
    answer = http.get("/v1/audio/voices").json()
    names = {voice["id"]: voice["name"] for voice in answer["voices"]}
    assert names
    assert len(names) == len(answer["voices"])
    assert all(isinstance(name, str) and name for name in names.values())


def test_a_listed_voice_speaks_by_its_id(client: OpenAI, http: httpx.Client) -> None:
    voices = http.get("/v1/audio/voices").json()["voices"]
    for voice in (voices[0], voices[-1]):
        answer = client.audio.speech.create(
            model="tts-1", voice=voice["id"], input="Hello.", response_format="pcm"
        )
        assert len(answer.content) > 0
