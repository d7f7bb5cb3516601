"""A speech request that cannot be done is refused with 400 or 404, and the field is named."""

import json

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from compat_tests.envelope import assert_envelope, assert_sdk_error
from compat_tests.texts import MAX_INPUT

REQUEST = {"model": "tts-1", "voice": "alloy", "input": "Hello."}


def refusal(client: OpenAI, **fields: object) -> BadRequestError:
    """The error that a request with these fields, and else a good one, is answered with."""
    with pytest.raises(BadRequestError) as caught:
        client.post("/audio/speech", cast_to=object, body={**REQUEST, **fields})
    return caught.value


@pytest.mark.parametrize(
    "text", ["a" * (MAX_INPUT + 1), "e\u0301" * (MAX_INPUT // 2 + 1), "😀" * (MAX_INPUT + 1)]
)
def test_one_code_point_too_many_is_refused(client: OpenAI, text: str) -> None:
    error = refusal(client, input=text)
    assert_sdk_error(error, param="input", code="string_above_max_length")
    assert "string_too_long" in error.message
    assert str(MAX_INPUT) in error.message


def test_the_most_code_points_are_spoken(http: httpx.Client) -> None:
    request = {**REQUEST, "input": "é" * MAX_INPUT, "response_format": "pcm"}
    answer = http.post("/v1/audio/speech", json=request)
    assert answer.is_success
    assert len(answer.content) > 0


@pytest.mark.parametrize("text", ["", " ", "   ", "\n\t \r\n", "\u00a0\u2003\u3000"])
def test_a_blank_input_is_refused(client: OpenAI, text: str) -> None:
    assert_sdk_error(refusal(client, input=text), param="input")


@pytest.mark.parametrize("speed", [0.24, 4.01, 0, -1, 1e300, "fast", True, [1.0]])
def test_a_speed_out_of_range_is_refused(client: OpenAI, speed: object) -> None:
    assert_sdk_error(refusal(client, speed=speed), param="speed")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_speed_that_is_no_number_is_refused(http: httpx.Client, number: str) -> None:
    body = json.dumps(REQUEST).removesuffix("}") + f', "speed": {number}}}'
    headers = {"content-type": "application/json"}
    assert_envelope(http.post("/v1/audio/speech", content=body, headers=headers), 400)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("response_format", "ogg"),
        ("response_format", "MP3 "),
        ("response_format", 3),
        ("stream_format", "websocket"),
        ("input", 5),
        ("input", ["Hello."]),
        ("model", 5),
        ("voice", 5),
        ("voice", "no-such-voice"),
        ("voice", ""),
        ("voice", {"id": "voice_nope"}),
        ("voice", {"id": 5}),
        ("voice", {"name": "alloy"}),
        ("instructions", 5),
        ("language", 5),
        ("sample_rate", "fast"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_field(
    client: OpenAI, field: str, value: object
) -> None:
    assert_sdk_error(refusal(client, **{field: value}), param=field)


def test_an_unknown_voice_is_told_the_ones_there_are(client: OpenAI) -> None:
    error = refusal(client, voice="no-such-voice")
    assert_sdk_error(error, param="voice", code="voice_not_found")
    assert "alloy" in error.message


@pytest.mark.parametrize("field", ["model", "voice", "input"])
def test_a_missing_field_is_named(client: OpenAI, field: str) -> None:
    body = {name: value for name, value in REQUEST.items() if name != field}
    with pytest.raises(BadRequestError) as caught:
        client.post("/audio/speech", cast_to=object, body=body)
    assert_sdk_error(caught.value, param=field)


@pytest.mark.parametrize("field", ["model", "voice", "input"])
def test_a_required_field_may_not_be_null(client: OpenAI, field: str) -> None:
    assert_sdk_error(refusal(client, **{field: None}), param=field)


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.audio.speech.create(model="nope", voice="alloy", input="Hello.")
    assert_sdk_error(caught.value, code="model_not_found")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut short"),
        pytest.param(b'{"model": "tts-1", }', id="trailing comma"),
        pytest.param(b"[]", id="an array"),
        pytest.param(b'"text"', id="a string"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"model": "tts-1", "voice": "alloy", "input": "\xff\xfe"}', id="not UTF-8"),
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(http: httpx.Client, body: bytes) -> None:
    answer = http.post(
        "/v1/audio/speech", content=body, headers={"content-type": "application/json"}
    )
    assert_envelope(answer, 400)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_another_content_type_is_refused(http: httpx.Client, content_type: str) -> None:
    answer = http.post(
        "/v1/audio/speech",
        content=b"model=tts-1&voice=alloy&input=Hello",
        headers={"content-type": content_type},
    )
    assert_envelope(answer, 400)


def test_a_charset_after_the_content_type_is_fine(http: httpx.Client) -> None:
    answer = http.post(
        "/v1/audio/speech",
        content=json.dumps(REQUEST).encode(),
        headers={"content-type": "application/json; charset=utf-8"},
    )
    assert answer.headers["content-type"] == "audio/mpeg"


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
def test_a_refusal_is_json_whatever_was_asked_for(http: httpx.Client, stream_format: str) -> None:
    request = {**REQUEST, "voice": "no-such-voice", "stream_format": stream_format}
    answer = http.post(
        "/v1/audio/speech", json=request, headers={"accept": "application/octet-stream"}
    )
    assert_envelope(answer, 400, param="voice")
