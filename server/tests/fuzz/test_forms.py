"""Forms of any sort: each is taken or refused, never the server's failure."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from litestar.datastructures import FormMultiDict
from litestar.testing import TestClient

from server.app import create_app
from server.catalog import Engines
from server.forms import flag_of, list_of, number_of, object_of, text_of
from server.settings import Settings
from server.tests.fakes import FakeEngine, FakeListener
from server.tests.fuzz.bounds import in_little_memory, soon
from server.tests.fuzz.effort import tries
from server.tests.fuzz.refusals import refusal_of
from server.tests.fuzz.seeds import sounds, spoiled
from server.transcription import engine_options, parse_request

TRANSCRIPTIONS = "/v1/audio/transcriptions"
MULTIPART = "multipart/form-data; boundary=b"
URL_ENCODED = "application/x-www-form-urlencoded"
TAKEN_OR_REFUSED = {200, 400, 404, 413}
FIELDS = (
    "model",
    "file",
    "language",
    "languages",
    "keywords[]",
    "prompt",
    "response_format",
    "temperature",
    "timestamp_granularities",
    "timestamp_granularities[]",
    "include[0]",
    "stream",
    "chunking_strategy",
    "chunking_strategy[type]",
    "known_speaker_names[]",
)
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ("whisper-1", "en", "verbose_json", "word", "[", '["word"]', '{"type":"server_vad"}', "1e9")
    ),
)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient[Any]]:
    engines = Engines({"espeak-ng": FakeEngine()}, {"pocketsphinx": FakeListener()})
    with TestClient(create_app(Settings(), engines), raise_server_exceptions=False) as client:
        yield client


def part(name: str, value: bytes, more: str = "") -> bytes:
    head = f'--b\r\ncontent-disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def whole(*parts: bytes) -> bytes:
    return b"".join((*parts, b"--b--\r\n"))


WAV = part("file", sounds()["wav"], '; filename="a.wav"')
SEEDS = (
    whole(part("model", b"whisper-1"), part("response_format", b"text"), WAV),
    whole(WAV, part("model", b"whisper-1", "\r\ncontent-type: text/plain; charset=utf-16")),
    whole(part("stream", b"true"), part("model", b"a"), part("file", b"x", "; filename*=utf-8''a")),
    whole(part("model", b"w"), part("chunking_strategy", b'{"type":"server_vad","threshold":1}')),
)


# Litestar lets go of a broken form's files without closing them: that is left to the interpreter.
@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")
def test_spoiled_multipart_is_taken_or_refused(client: TestClient[Any]) -> None:
    @tries(100)
    @given(spoiled(SEEDS))
    @example(b"")
    @example(b"--b")
    @example(b"--b\r\n\r\n--b--")
    @example(whole(part("model", b"\xff\xfe", "\r\ncontent-type: text/plain; charset=nonsense")))
    def check(body: bytes) -> None:
        with soon():
            answer = client.post(TRANSCRIPTIONS, content=body, headers={"content-type": MULTIPART})
        assert answer.status_code in TAKEN_OR_REFUSED, answer.text

    with in_little_memory():
        check()


@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")
def test_form_of_any_type_and_boundary_is_taken_or_refused(client: TestClient[Any]) -> None:
    types = st.sampled_from(("multipart/form-data", URL_ENCODED, "text/plain"))
    rest = st.sampled_from(("", ";", "; boundary", "; boundary=", '; boundary="', "; boundary=é"))
    rest |= st.text("abc;=\"' *-_%", max_size=12)

    @tries(60)
    @given(types, rest, spoiled(SEEDS))
    def check(media_type: str, rest: str, body: bytes) -> None:
        headers = {b"content-type": (media_type + rest).encode().strip()}
        with soon():
            answer = client.post(TRANSCRIPTIONS, content=body, headers=headers)
        assert answer.status_code in TAKEN_OR_REFUSED, answer.text

    check()


def test_any_url_encoded_form_is_taken_or_refused(client: TestClient[Any]) -> None:
    seeds = (
        b"text=hello&voice_id=alloy&seed=1&top_p=0.5",
        b"text=%E4%BD%A0+a&voice_id=%FF&strategy=fast",
        b"&&&===%&text;a=b&temperature=nan",
    )

    @tries(60)
    @given(spoiled(seeds))
    def check(body: bytes) -> None:
        with soon():
            answer = client.post("/api/tts", content=body, headers={"content-type": URL_ENCODED})
        assert answer.status_code in TAKEN_OR_REFUSED, answer.text

    check()


def test_fields_of_any_text_are_read_or_refused() -> None:
    pairs = st.lists(st.tuples(st.sampled_from(FIELDS) | st.text(max_size=8), TEXTS), max_size=8)

    @tries(150)
    @given(pairs)
    @example([("model", "w"), ("chunking_strategy", "[" * 100_000)])
    @example([("model", "w"), ("chunking_strategy", '{"type":"server_vad","threshold":NaN}')])
    @example([("model", "w"), ("temperature", "nan")])
    @example([("model", "w"), ("language", "\x00")])
    def check(pairs: list[tuple[str, str]]) -> None:
        form = FormMultiDict(pairs)
        for read in (
            lambda: engine_options(parse_request(form), "transcribe"),
            lambda: flag_of(form, "stream"),
            lambda: number_of(text_of(form, "prompt"), "prompt", 1),
            lambda: list_of(form, "keywords"),
            lambda: object_of(form, "chunking_strategy"),
        ):
            with soon():
                refusal = refusal_of(read)
            assert refusal is None or refusal.status == 400

    check()
