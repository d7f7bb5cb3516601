"""JSON bodies of any sort: a request, or a 400 that can itself be written as JSON."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.schemas.body import decode_json
from server.schemas.speech import SpeechRequest
from server.schemas.voices import ConsentChange
from server.tests.fuzz.bounds import in_little_memory, soon
from server.tests.fuzz.effort import tries
from server.tests.fuzz.refusals import refusal_of
from server.tests.fuzz.seeds import spoiled
from voices.profile import VoiceEdit

JSON = "application/json"
BODIES: tuple[type[msgspec.Struct], ...] = (SpeechRequest, VoiceEdit, ConsentChange)
SEEDS = (
    b'{"model":"tts-1","voice":"alloy","input":"hello"}',
    b'{"model":"tts-1","voice":{"id":"a"},"input":"\xe4\xbd\xa0\\u4f60\\ud83d\\ude00","speed":1.5}',
    b'{"model":"m","input":"i","ref_audio":"data:audio/wav;base64,UklGRg==","ref_text":"t"}',
    b'{"name":"Ada","language":"en","prompt_text":null,"description":"\\ud800"}',
    b'{"model":"m","voice":"v","input":"i","seed":"7","stream":true,"sample_rate":1e3}',
    b'{"model":"m","voice":"v","input":"i","timestamp_granularities":["word"]}',
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def is_taken_or_refused(schema: type[msgspec.Struct], body: bytes, media_type: str = JSON) -> None:
    with soon():
        refusal = refusal_of(lambda: decode_json(schema, body, media_type))
    assert refusal is None or refusal.status == 400


@pytest.mark.parametrize("schema", BODIES)
def test_spoiled_body_is_taken_or_refused(schema: type[msgspec.Struct]) -> None:
    @tries(60)
    @given(spoiled(SEEDS))
    @example(b'{"model":"\\udfff"}')
    @example(b"\xff\xfe{\x00}\x00")
    @example(b'{"model":"a","voice":"b","input":"c","seed":1e999}')
    def check(body: bytes) -> None:
        is_taken_or_refused(schema, body)

    with in_little_memory():
        check()


@pytest.mark.parametrize("schema", BODIES)
def test_body_of_any_values_is_taken_or_refused(schema: type[msgspec.Struct]) -> None:
    fields = st.sampled_from(schema.__struct_fields__) | st.text(max_size=8)

    @tries(60)
    @given(st.dictionaries(fields, VALUES, max_size=6) | VALUES, st.sampled_from((JSON, "", "a/b")))
    def check(document: Any, media_type: str) -> None:
        is_taken_or_refused(schema, msgspec.json.encode(document), media_type)

    check()
