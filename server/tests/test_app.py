"""The app around a fake engine. Streaming proper is tested over a real socket, in compat_tests."""

import base64
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from litestar.testing import TestClient

from engine.types import Sampling
from server.app import create_app
from server.audio.formats import FORMATS
from server.catalog import Engines
from server.settings import Settings
from server.tests.fake_voices import StylishEngine
from server.tests.fakes import CHUNK_SAMPLES, FakeEngine

Client = TestClient[Any]
SPEECH = "/v1/audio/speech"
HELLO: dict[str, object] = {"model": "tts-1", "voice": "low", "input": "one two three"}


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def app_client(engine: FakeEngine, settings: Settings | None = None) -> Client:
    return TestClient(create_app(settings or Settings(), Engines({"espeak-ng": engine})))


@pytest.fixture
def client(engine: FakeEngine) -> Iterator[Client]:
    with app_client(engine) as client:
        yield client


def test_alias_means_the_best_engine_that_has_its_model() -> None:
    for is_absent in (True, False):
        cloner, embedded = FakeEngine(is_absent=is_absent), FakeEngine()
        cloner.name = "glm-tts"
        engines = Engines({"espeak-ng": embedded, "glm-tts": cloner})
        with TestClient(create_app(Settings(), engines)) as client:
            expected = embedded if is_absent else cloner
            assert client.get("/v1/models/tts-1").json()["engine"] == expected.name
            assert client.post(SPEECH, json=HELLO).status_code == 200
        assert [len(each.requests) for each in (expected, cloner, embedded)].count(1) == 2


def events(text: str) -> list[dict[str, Any]]:
    parts = text.split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") for part in parts)
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def test_pcm_is_the_engines_audio(client: Client, engine: FakeEngine) -> None:
    answer = client.post(SPEECH, json={**HELLO, "response_format": "pcm"})
    assert answer.status_code == 200
    assert len(answer.content) == 2 * 3 * CHUNK_SAMPLES
    assert engine.requests[0].text == "one two three"
    assert engine.open_streams == 0


@pytest.mark.parametrize("response_format", list(FORMATS))
def test_each_format_says_what_it_is(client: Client, response_format: str) -> None:
    answer = client.post(SPEECH, json={**HELLO, "response_format": response_format})
    assert answer.headers["content-type"] == dict(FORMATS)[response_format].media_type  # type: ignore[index]
    assert answer.headers["x-rhapsode-engine"] == "fake"


def test_names_of_openai_become_the_engines_voices(client: Client, engine: FakeEngine) -> None:
    client.post(SPEECH, json={**HELLO, "voice": "alloy"})
    client.post(SPEECH, json={**HELLO, "voice": {"id": "low"}})
    assert [request.voice for request in engine.requests] == ["en-us+robosoft8", "low"]


def test_voice_table_is_a_setting(engine: FakeEngine) -> None:
    settings = Settings(engines={"espeak-ng": engine_settings(voices={"alloy": "low"})})
    with app_client(engine, settings) as client:
        client.post(SPEECH, json={**HELLO, "voice": "alloy"})
        client.post(SPEECH, json={**HELLO, "voice": "echo"})
    assert [request.voice for request in engine.requests] == ["low", "en-us+robosoft2"]


def engine_settings(voices: dict[str, str]) -> Any:
    from server.settings import EngineSettings

    return EngineSettings(voices=voices)


@pytest.mark.parametrize(
    ("speed", "asked_of_engine", "tempo"), [(None, 1.0, 1.0), (2.0, 2.0, 1.0), (4.0, 2.0, 2.0)]
)
def test_engine_does_what_it_can_of_the_speed_and_the_server_the_rest(
    client: Client, engine: FakeEngine, speed: float | None, asked_of_engine: float, tempo: float
) -> None:
    body = {**HELLO, "response_format": "pcm", "speed": speed}
    answer = client.post(SPEECH, json=body)
    assert engine.requests[0].speed == asked_of_engine
    assert len(answer.content) // 2 == round(3 * CHUNK_SAMPLES / tempo)


def test_sse_deltas_join_to_the_plain_stream(client: Client) -> None:
    body = {**HELLO, "response_format": "mp3"}
    plain = client.post(SPEECH, json=body).content
    answer = client.post(SPEECH, json={**body, "stream_format": "sse"})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *deltas, done = events(answer.text)
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == plain
    assert done["type"] == "speech.audio.done"
    assert done["usage"] == {"input_tokens": 13, "output_tokens": 15, "total_tokens": 28}


def test_sse_tells_progress_and_at_the_end_what_it_cost(client: Client) -> None:
    body = {**HELLO, "response_format": "pcm", "stream_format": "sse", "speed": 4.0}
    answer = client.post(SPEECH, json=body)
    *deltas, done = events(answer.text)
    progress = [event["progress"] for event in deltas]
    assert progress == sorted(progress)
    assert {0 < share <= 1 for share in progress} == {True}
    assert progress[-1] == 1.0
    figures = done["rhapsode"]
    # Three chunks of 0.1 s and 1 ms of work each, played twice as fast as they were spoken.
    assert (figures["audio_s"], figures["rtf"]) == (0.15, 0.02)
    assert 0 < figures["ttfa_s"] <= figures["wall_s"]
    assert figures["underrun_s"] >= 0
    assert int(answer.headers["x-rhapsode-ttfa-ms"]) == pytest.approx(
        1000 * figures["ttfa_s"], abs=0.6
    )


@pytest.mark.parametrize(
    "extra", [{}, {"stream_format": "sse", "timestamp_granularities": ["word"]}]
)
def test_stream_tells_when_its_first_audio_was_there(
    client: Client, extra: dict[str, object]
) -> None:
    assert int(client.post(SPEECH, json={**HELLO, **extra}).headers["x-rhapsode-ttfa-ms"]) >= 0


def test_whole_clip_has_no_first_audio_to_tell_of(client: Client) -> None:
    answer = client.post(SPEECH, json={**HELLO, "stream": False})
    assert "x-rhapsode-ttfa-ms" not in answer.headers


def test_sse_gives_word_times_when_asked(client: Client) -> None:
    body = {**HELLO, "response_format": "pcm", "stream_format": "sse", "speed": 4.0}
    answer = client.post(SPEECH, json={**body, "timestamp_granularities": ["word"]})
    times = [
        (word["word"], word["start"])
        for event in events(answer.text)
        if event["type"] == "speech.audio.words"
        for word in event["words"]
    ]
    # The engine spoke at twice the pace; the server halved its times once more.
    assert times == [("one", 0.0), ("two", 0.05), ("three", 0.1)]


def test_whole_clip_states_its_length(client: Client) -> None:
    body = {**HELLO, "response_format": "wav", "stream": False}
    answer = client.post(SPEECH, json=body)
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert int.from_bytes(answer.content[4:8], "little") == len(answer.content) - 8


def test_failure_before_audio_is_an_error_answer(client: Client, engine: FakeEngine) -> None:
    for extra in ({}, {"stream_format": "sse"}, {"stream": False}):
        answer = client.post(SPEECH, json={**HELLO, "input": "break", **extra})
        assert answer.status_code == 500
        assert answer.json()["error"] == {
            "message": "the engine broke",
            "type": "server_error",
            "param": None,
            "code": "engine_failed",
        }
    assert engine.open_streams == 0


def test_no_audio_at_all_is_an_error_not_an_empty_success(client: Client) -> None:
    for response_format in ("pcm", "mp3"):
        body = {**HELLO, "input": "silence", "response_format": response_format}
        assert client.post(SPEECH, json=body).status_code == 500
        assert client.post(SPEECH, json={**body, "stream": False}).status_code == 500


def test_unknown_voice_is_refused_with_those_there_are(client: Client) -> None:
    for voice in ("nobody", "", {"id": "nobody"}):
        error = client.post(SPEECH, json={**HELLO, "voice": voice}).json()["error"]
        assert (error["param"], error["code"]) == ("voice", "voice_not_found")
        assert "alloy" in error["message"]


def test_sample_rate_is_honoured_or_refused(client: Client) -> None:
    body = {**HELLO, "response_format": "wav", "sample_rate": 16000}
    answer = client.post(SPEECH, json=body)
    assert int.from_bytes(answer.content[24:28], "little") == 16000
    refused = client.post(SPEECH, json={**body, "response_format": "opus", "sample_rate": 44100})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "sample_rate"


def test_input_is_counted_in_code_points(engine: FakeEngine) -> None:
    with app_client(engine, Settings()) as client:
        assert client.post(SPEECH, json={**HELLO, "input": "é" * 4096}).status_code == 200
        refused = client.post(SPEECH, json={**HELLO, "input": "e\u0301" * 2049})
    assert refused.json()["error"]["param"] == "input"
    assert "string_too_long" in refused.json()["error"]["message"]


def test_engine_that_is_not_up_answers_503_with_a_time_to_come_back() -> None:
    with app_client(FakeEngine(is_up=False)) as client:
        answer = client.post(SPEECH, json=HELLO)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        assert answer.headers["retry-after-ms"] == "1500"
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200
        model = client.get("/v1/models/tts-1").json()
        assert (model["state"], model["honours"]) == ("starting", None)


def test_every_answer_carries_the_headers_of_openai(client: Client) -> None:
    answers = [
        client.post(SPEECH, json=HELLO),
        client.post(SPEECH, json={}),
        client.get("/nowhere"),
        client.get("/v1/models"),
        client.head("/health"),
    ]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == len(answers)
    assert all(request_id.startswith("req_") for request_id in ids)
    assert all(int(answer.headers["openai-processing-ms"]) >= 0 for answer in answers)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", SPEECH, 405), ("GET", "/v1/models/nope", 404)],
)
def test_errors_of_the_framework_come_in_the_envelope(
    client: Client, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_body_over_the_limit_is_413(engine: FakeEngine) -> None:
    from server.settings import Limits

    with app_client(engine, Settings(limits=Limits(json_bytes=100))) as client:
        answer = client.post(SPEECH, json={**HELLO, "input": "x" * 200})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


def test_only_the_recording_may_be_as_large_as_an_upload(engine: FakeEngine) -> None:
    from server.settings import Limits

    limits = Limits(json_bytes=200, upload_bytes=3_000)
    with app_client(engine, Settings(limits=limits)) as client:

        def status(**fields: object) -> int:
            return client.post(SPEECH, json={**HELLO, **fields}).status_code

        assert status(ref_audio="A" * 4_000) == 400  # read, and no recording
        assert status(ref_audio="A" * 4_300) == 413
        assert status(foo="A" * 4_000) == 413
        assert status(ref_audio="A" * 2_000, foo="A" * 2_000) == 413
        body = b'{"ref_audio": "' + b"A" * 4_000
        json_type = {"content-type": "application/json"}
        assert client.post(SPEECH, content=body, headers=json_type).status_code == 413


def test_sampling_reaches_the_engine_under_either_name(client: Client, engine: FakeEngine) -> None:
    client.post(SPEECH, json={**HELLO, "strategy": "fast", "temperature": 0.5})
    client.post(SPEECH, json={**HELLO, "sampling_strategy": "quality", "top_p": 0.9, "top_k": 5})
    client.post(SPEECH, json=HELLO)
    assert [request.sampling for request in engine.requests] == [
        Sampling(strategy="fast", temperature=0.5),
        Sampling(strategy="quality", top_p=0.9, top_k=5),
        Sampling(),
    ]


def test_field_without_effect_on_the_engine_is_told() -> None:
    engine = StylishEngine(clones=False, honours=("top_k", "seed"))
    with app_client(engine) as client:
        given = {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "seed": 0, "instructions": "calm"}
        for extra in ({}, {"stream_format": "sse"}, {"stream": False}):
            answer = client.post(SPEECH, json={**HELLO, **given, **extra})
            assert answer.status_code == 200
            assert answer.headers["x-rhapsode-ignored"] == "instructions, temperature, top_p"
        answer = client.post(SPEECH, json={**HELLO, "top_k": 5, "seed": 0, "temperature": None})
        assert "x-rhapsode-ignored" not in answer.headers
        (model,) = {tuple(each["honours"]) for each in client.get("/v1/models").json()["data"]}
    assert model == ("seed", "top_k")


@pytest.mark.parametrize(
    "header",
    [{}, {"authorization": "Bearer wrong-key-0000"}, {"authorization": "Basic a2V5LW9uZQ"}],
)
def test_wrong_key_is_401(engine: FakeEngine, header: dict[str, str]) -> None:
    with app_client(engine, Settings(api_keys=("key-one", "key-two"))) as client:
        answer = client.post(SPEECH, json=HELLO, headers=header)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert "wrong-key-0000" not in answer.text
        right = {"authorization": "Bearer key-two"}
        assert client.post(SPEECH, json=HELLO, headers=right).status_code == 200


def test_catalogue_needs_a_key_only_when_it_is_closed(engine: FakeEngine) -> None:
    for is_open in (True, False):
        settings = Settings(api_keys=("key",), open_catalog=is_open)
        with app_client(engine, settings) as client:
            for path in ("/v1/models", "/v1/audio/models", "/v1/audio/voices"):
                assert (client.get(path).status_code == 200) is is_open
            assert client.get("/health").status_code == 200


def test_voices_answer_every_shape_that_clients_expect(client: Client) -> None:
    body = client.get("/v1/audio/voices").json()
    names = {voice["id"]: voice["name"] for voice in body["voices"]}
    assert len(names) == 14
    assert names["low"] == "Low"
    assert body["data"] == body["voices"]
    assert body["has_more"] is False


def test_cross_origin_pages_are_let_in_only_by_name(engine: FakeEngine) -> None:
    origin = "https://page.example"
    for allowed in ((), (origin,)):
        with app_client(engine, Settings(cors_origins=allowed)) as client:
            answer = client.get("/v1/models", headers={"origin": origin})
        assert ("access-control-allow-origin" in answer.headers) is bool(allowed)


def test_log_tells_all_of_a_request_but_its_text(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    headers = {"x-client-request-id": "mine\nevent=forged", "x-stainless-retry-count": "1"}
    answer = client.post(SPEECH, json={**HELLO, "input": "secret words"}, headers=headers)
    (line,) = [r.getMessage() for r in caplog.records if "event=speech" in r.getMessage()]
    assert f"request_id={answer.headers['x-request-id']}" in line
    for part in ("voice=low", "characters=12", "outcome=done", "ttfa_s=", "rtf=0.01", "retry=1"):
        assert part in line
    assert f"bytes={len(answer.content)}" in line
    assert "secret" not in caplog.text
    assert "\n" not in line
