"""The form's other fields, in all the spellings of their clients."""

import json
from typing import Any

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from compat_tests.envelope import assert_envelope, assert_sdk_error
from compat_tests.recordings import encode, silence
from compat_tests.sdk import language_codes, transcribe
from compat_tests.texts import WEATHER, share_heard
from compat_tests.wire import TRANSCRIPTIONS

SERVER_VAD = {
    "type": "server_vad",
    "threshold": 0.4,
    "prefix_padding_ms": 200,
    "silence_duration_ms": 300,
}
SAMPLE = "data:audio/wav;base64,UklGRgAAAAA="


@pytest.fixture
def refusal(client: OpenAI, weather_wav: bytes) -> Any:
    """The error that a request with these fields, and else a good one, is answered with."""

    def of(**fields: Any) -> BadRequestError:
        with pytest.raises(BadRequestError) as caught:
            transcribe(client, **{"model": "whisper-1", "file": weather_wav, **fields})
        return caught.value

    return of


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"chunking_strategy": "auto"}, id="chunking auto"),
        pytest.param({"chunking_strategy": SERVER_VAD}, id="chunking server_vad"),
        pytest.param({"chunking_strategy": json.dumps(SERVER_VAD)}, id="chunking as JSON"),
        pytest.param({"language": "en-US"}, id="language tag"),
        pytest.param({"language": "English"}, id="language name"),
        pytest.param({"language": ""}, id="empty language"),
        pytest.param({"prompt": "A talk about the weather."}, id="prompt"),
        pytest.param({"temperature": 1}, id="temperature 1"),
        pytest.param({"include": ["logprobs"]}, id="logprobs"),
        pytest.param({"foo": "bar", "hotwords": "x"}, id="unknown fields"),
        pytest.param({"languages": ["en"]}, id="one of languages"),
    ],
)
def test_an_option_leaves_the_words_right(
    client: OpenAI, weather_wav: bytes, fields: dict[str, Any]
) -> None:
    answer = transcribe(client, model="gpt-transcribe", file=weather_wav, **fields)
    assert share_heard(WEATHER, answer.text) > 0.5


def test_keywords_and_languages_go_together(client: OpenAI, weather_wav: bytes) -> None:
    answer = transcribe(
        client,
        model="gpt-transcribe",
        file=weather_wav,
        keywords=["weather"],
        languages=["en", "de"],
    )
    assert language_codes(answer) == ["en"]


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        pytest.param([("timestamp_granularities[]", "word")], {"words"}, id="brackets"),
        pytest.param([("timestamp_granularities", "word")], {"words"}, id="no brackets"),
        pytest.param(
            [("timestamp_granularities[]", "word"), ("timestamp_granularities[]", "segment")],
            {"words", "segments"},
            id="repeated",
        ),
        pytest.param(
            [("timestamp_granularities", "word,segment")], {"words", "segments"}, id="commas"
        ),
        pytest.param([("timestamp_granularities", '["word"]')], {"words"}, id="JSON"),
        pytest.param([("timestamp_granularities[]", "")], {"segments"}, id="empty"),
    ],
)
def test_a_list_may_be_spelt_in_any_way(
    http: httpx.Client, parts: list[tuple[str, str]], found: set[str]
) -> None:
    form = [("model", "whisper-1"), ("response_format", "verbose_json"), *parts]
    files: list[tuple[str, Any]] = [(name, (None, value)) for name, value in form]
    files.append(("file", ("a.wav", encode(silence(0.2), "wav"))))
    answer = http.post(TRANSCRIPTIONS, files=files).raise_for_status()
    assert set(answer.json()) & {"words", "segments"} == found


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 2),
        ("temperature", -0.1),
        ("temperature", "hot"),
        ("response_format", "xml"),
        ("response_format", "diarized_json"),
        ("language", "xx-nope"),
        ("timestamp_granularities", ["sentence"]),
        ("include", ["everything"]),
        ("chunking_strategy", {"type": "foo"}),
        ("chunking_strategy", "manual"),
        ("chunking_strategy", {"type": "server_vad", "threshold": 7}),
        ("stream", "perhaps"),
    ],
)
# Before 3.x, the SDK warns of the format by a method of its logger that is deprecated.
@pytest.mark.filterwarnings("ignore:The 'warn' method:DeprecationWarning")
def test_a_bad_value_is_refused_by_the_name_of_its_field(
    refusal: Any, field: str, value: object
) -> None:
    assert_sdk_error(refusal(**{field: value}), param=field)


def test_more_than_four_known_speakers_are_refused(refusal: Any) -> None:
    names, samples = ["a", "b", "c", "d", "e"], [SAMPLE] * 5
    error = refusal(known_speaker_names=names, known_speaker_references=samples)
    assert_sdk_error(error, param="known_speaker_names")


def test_each_known_speaker_needs_a_sample(refusal: Any) -> None:
    error = refusal(known_speaker_names=["a", "b"], known_speaker_references=[SAMPLE])
    assert_sdk_error(error)
    assert (error.param or "").startswith("known_speaker_")


def test_an_unknown_model_is_not_found(client: OpenAI, weather_wav: bytes) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.audio.transcriptions.create(model="nope", file=weather_wav)
    assert_sdk_error(caught.value, code="model_not_found")


def test_a_model_that_speaks_does_not_listen(refusal: Any) -> None:
    assert_sdk_error(refusal(model="espeak-ng"), param="model")


def test_a_missing_model_is_named(http: httpx.Client, weather_wav: bytes) -> None:
    assert_envelope(
        http.post(TRANSCRIPTIONS, files={"file": ("a.wav", weather_wav)}), 400, param="model"
    )


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/x-www-form-urlencoded", "text/plain", ""]
)
def test_a_body_that_is_no_multipart_form_is_refused(http: httpx.Client, content_type: str) -> None:
    headers = {"content-type": content_type} if content_type else {}
    assert_envelope(
        http.post(TRANSCRIPTIONS, content=b'{"model": "whisper-1"}', headers=headers), 400
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"--other\r\n", id="another boundary"),
        pytest.param(b"--b\r\ncontent-disposition: form-data; name=x\r\n\r\n", id="cut short"),
        pytest.param(b"--b\r\nnonsense", id="no headers"),
        pytest.param(bytes(range(256)) * 40, id="noise"),
    ],
)
def test_a_broken_form_is_refused(http: httpx.Client, body: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert_envelope(http.post(TRANSCRIPTIONS, content=body, headers=headers), 400)
    no_boundary = {"content-type": "multipart/form-data"}
    assert_envelope(http.post(TRANSCRIPTIONS, content=body, headers=no_boundary), 400)
