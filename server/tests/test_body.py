import msgspec
import pytest

from server.errors import ApiError
from server.schemas.body import decode_json
from server.schemas.speech import SpeechRequest, VoiceRef

JSON = "application/json"


def decode(body: bytes, content_type: str = JSON) -> SpeechRequest:
    return decode_json(SpeechRequest, body, content_type)


def refused(body: bytes, content_type: str = JSON) -> ApiError:
    with pytest.raises(ApiError) as caught:
        decode(body, content_type)
    assert caught.value.status == 400
    return caught.value


def body_with(**fields: object) -> bytes:
    return msgspec.json.encode({"model": "m", "input": "i", "voice": "v", **fields})


def test_smallest_body_takes_all_defaults() -> None:
    body = decode(body_with())
    assert (body.model, body.input, body.voice_name) == ("m", "i", "v")
    assert (body.speed, body.response_format, body.instructions) == (None, None, None)
    assert not body.is_sse
    assert not body.is_whole


def test_voice_may_be_an_object() -> None:
    body = decode(body_with(voice={"id": "voice_1"}))
    assert body.voice == VoiceRef("voice_1")
    assert body.voice_name == "voice_1"


def test_unknown_fields_and_nulls_are_let_through() -> None:
    body = decode(body_with(foo=1, speed=None, instructions=None, stream=None))
    assert body.speed is None


def test_numbers_may_come_as_text() -> None:
    assert decode(body_with(speed="2")).speed == 2.0


@pytest.mark.parametrize(
    ("fields", "is_sse", "is_whole"),
    [
        ({"stream_format": "sse"}, True, False),
        ({"stream_format": "audio", "stream": True}, False, False),
        ({"stream": True}, True, False),
        ({"stream": False}, False, True),
        ({"stream": False, "stream_format": "sse"}, True, False),
    ],
)
def test_stream_flag_is_another_word_for_the_format(
    fields: dict[str, object], is_sse: bool, is_whole: bool
) -> None:
    body = decode(body_with(**fields))
    assert (body.is_sse, body.is_whole) == (is_sse, is_whole)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 2, "top_p": 1, "top_k": 1000, "strategy": "quality"},
        {"temperature": 0.01, "top_p": 0.01, "top_k": 1, "sampling_strategy": "fast"},
        {"temperature": "0.7", "top_p": None, "top_k": "20", "strategy": None},
    ],
)
def test_sampling_fields_take_all_of_their_range(fields: dict[str, object]) -> None:
    body = decode(body_with(**fields))
    assert body.temperature == float(str(fields["temperature"]))


@pytest.mark.parametrize("voice", [{}, {"voice": None}, {"voice": "alloy"}])
def test_voice_need_not_be_named_when_it_comes_along(voice: dict[str, object]) -> None:
    fields = {"model": "m", "input": "i", "ref_audio": "UklGRg==", **voice}
    assert decode(msgspec.json.encode(fields)).ref_audio == "UklGRg=="


def test_text_of_a_recording_needs_the_recording() -> None:
    assert refused(body_with(ref_text="hello")).param == "ref_text"
    assert decode(body_with(ref_text="")).ref_text == ""


@pytest.mark.parametrize("field", ["model", "input", "voice"])
def test_missing_field_is_named(field: str) -> None:
    fields = {"model": "m", "input": "i", "voice": "v"}
    del fields[field]
    error = refused(msgspec.json.encode(fields))
    assert error.param == field
    assert error.code == "missing_required_parameter"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("speed", 0.24),
        ("speed", 4.01),
        ("speed", "fast"),
        ("response_format", "ogg"),
        ("stream_format", "chunks"),
        ("seed", -1),
        ("sample_rate", "high"),
        ("temperature", 0),
        ("temperature", 2.01),
        ("temperature", "warm"),
        ("top_p", 0),
        ("top_p", 1.01),
        ("top_k", 0),
        ("top_k", 1001),
        ("top_k", 1.5),
        ("strategy", "best"),
        ("sampling_strategy", "best"),
        ("ref_audio", 5),
        ("ref_text", ["hello"]),
        ("instructions", "x" * 4097),
        ("timestamp_granularities", ["segment"]),
        ("input", 5),
        ("voice", {"id": 5}),
        ("voice", {}),
        ("voice", 7),
        ("model", None),
    ],
)
def test_bad_value_is_named(field: str, value: object) -> None:
    error = refused(body_with(**{field: value}))
    assert error.param == field
    assert error.code in ("invalid_value", "missing_required_parameter")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b'{"input":"\xff"}'])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    assert refused(body).param is None


def test_deep_nesting_is_refused() -> None:
    deep = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert refused(deep).code == "invalid_json"


@pytest.mark.parametrize("text", [rb"\ud800", rb"a\udfffb", rb"\udc00\ud800"])
def test_lone_surrogate_names_its_field(text: bytes) -> None:
    error = refused(b'{"model":"m","voice":"v","input":"' + text + b'"}')
    assert error.param == "input"


@pytest.mark.parametrize("content_type", ["", "text/plain", "multipart/form-data; boundary=x"])
def test_body_must_say_that_it_is_json(content_type: str) -> None:
    assert refused(body_with(), content_type).code == "invalid_content_type"


def test_content_type_may_have_parameters() -> None:
    assert decode(body_with(), "Application/JSON; charset=utf-8").model == "m"
