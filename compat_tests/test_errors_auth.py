"""What holds on every path: headers, the error envelope, methods, size limits, keys."""

import re
from collections.abc import Callable, Iterator, Mapping

import httpx
import pytest
from openai import APIStatusError, AuthenticationError, NotFoundError, OpenAI

from compat_tests.conftest import ForeignServer
from compat_tests.envelope import assert_envelope, assert_platform_headers, assert_sdk_error
from compat_tests.process import ServerProcess
from compat_tests.waiting import wait_for
from compat_tests.wire import TRANSCRIPTIONS

SPEECH = "/v1/audio/speech"
REQUEST = {"model": "tts-1", "voice": "alloy", "input": "Hello."}
OVER_ANY_LIMIT_BYTES = 26_214_400 + 1_000_000
KEYS = ("sk-first-0123456789abcdef", "sk-second-0123456789abcdef")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", SPEECH, REQUEST, 200),
        ("POST", SPEECH, {**REQUEST, "stream_format": "sse"}, 200),
        ("POST", SPEECH, {**REQUEST, "stream": False}, 200),
        ("POST", SPEECH, {**REQUEST, "voice": "nope"}, 400),
        ("POST", SPEECH, {**REQUEST, "model": "nope"}, 404),
        ("GET", SPEECH, None, 405),
        ("GET", "/v1/models", None, 200),
        ("GET", "/v1/models/nope", None, 404),
        ("GET", "/v1/audio/models", None, 200),
        ("GET", "/v1/audio/voices", None, 200),
        ("GET", "/v1/no-such-route", None, 404),
        ("GET", "/no-such-route", None, 404),
        ("GET", "/health", None, 200),
        ("GET", "/ready", None, 200),
    ],
)
def test_every_response_names_itself(
    http: httpx.Client, method: str, path: str, body: object, status: int
) -> None:
    answer = http.request(method, path, json=body)
    assert answer.status_code == status
    assert_platform_headers(answer.headers)


def test_no_two_responses_share_a_request_id(http: httpx.Client) -> None:
    ids = {http.get("/v1/models").headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


def test_the_sdk_sees_the_request_id(client: OpenAI) -> None:
    raw = client.audio.speech.with_raw_response.create(model="tts-1", voice="alloy", input="Hello.")
    assert raw.request_id
    assert client.models.list()._request_id  # noqa: SLF001 - public, the SDK says


def test_a_client_request_id_is_logged(http: httpx.Client, own_server: ServerProcess) -> None:
    name = "client-request-7f3a"
    assert http.post(SPEECH, json=REQUEST, headers={"x-client-request-id": name}).is_success
    wait_for(lambda: any(name in line for line in own_server.lines()), 2.0, "the id is logged")


def test_a_retry_is_logged(http: httpx.Client, own_server: ServerProcess) -> None:
    assert http.post(SPEECH, json=REQUEST, headers={"x-stainless-retry-count": "7"}).is_success
    retried = re.compile(r"retr\w*\W{1,3}7\b")
    wait_for(lambda: any(map(retried.search, own_server.lines())), 2.0, "the retry is logged")


def test_a_client_request_id_cannot_forge_a_log_line(
    http: httpx.Client, own_server: ServerProcess
) -> None:
    name = "forged\x1b[31m-9c2d"
    assert http.post(SPEECH, json=REQUEST, headers={"x-client-request-id": name}).status_code < 500
    assert not any("\x1b[31m-9c2d" in line for line in own_server.lines())


def test_the_text_is_never_logged(http: httpx.Client, own_server: ServerProcess) -> None:
    request = {**REQUEST, "input": "A xylographic secret."}
    answer = http.post(SPEECH, json=request)
    assert answer.is_success
    assert http.post(SPEECH, json={**request, "voice": "nope"}).status_code == 400
    request_id = answer.headers["x-request-id"]
    wait_for(lambda: any(request_id in line for line in own_server.lines()), 2.0, "it is logged")
    assert not any("xylographic" in line for line in own_server.lines())


def test_the_wrong_method_is_a_plain_status_error(client: OpenAI) -> None:
    with pytest.raises(APIStatusError) as caught:
        client.get("/audio/speech", cast_to=object)
    assert type(caught.value) is APIStatusError
    assert caught.value.status_code == 405
    assert_sdk_error(caught.value)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", SPEECH, "POST"),
        ("DELETE", SPEECH, "POST"),
        ("PUT", SPEECH, "POST"),
        ("POST", "/v1/models", "GET"),
        ("POST", "/health", "GET"),
    ],
)
def test_a_wrong_method_is_told_the_right_one(
    http: httpx.Client, method: str, path: str, allowed: str
) -> None:
    answer = http.request(method, path, headers={"content-type": "application/json"})
    assert_envelope(answer, 405)
    assert allowed in [name.strip() for name in answer.headers["allow"].split(",")]


@pytest.mark.parametrize(
    "path", ["/v1/no-such-route", "/no-such-route", "/v1/audio/nope", "/v1/test", "/v1/readyz"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_route_is_not_found(http: httpx.Client, method: str, path: str) -> None:
    assert_envelope(http.request(method, path), 404)


def test_the_sdk_sees_an_unknown_route_as_not_found(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.get("/no-such-route", cast_to=object)
    assert_sdk_error(caught.value)


@pytest.mark.parametrize("path", ["/v1/realtime/client_secrets", "/v1/chat/completions"])
def test_what_we_do_not_serve_is_not_found(http: httpx.Client, path: str) -> None:
    assert_envelope(http.post(path, json={}), 404)


def test_a_json_content_type_without_a_body_is_fine(http: httpx.Client) -> None:
    """The SDK's GET and DELETE carry one."""
    answer = http.get("/v1/models", headers={"content-type": "application/json"})
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models"])
def test_head_answers_as_get_without_a_body(http: httpx.Client, path: str) -> None:
    answer = http.head(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == http.get(path).headers["content-type"]
    assert answer.content == b""


@pytest.mark.parametrize("path", ["/v1/", "/v1", "/v1/models/"])
def test_a_trailing_slash_neither_redirects_nor_fails(http: httpx.Client, path: str) -> None:
    """LiveKit warms its connection with GET /v1/; a redirected upload breaks."""
    status = http.get(path).status_code
    assert status == 200 or 400 <= status < 500


def test_health_answers(http: httpx.Client) -> None:
    assert http.get("/health").status_code == 200


def test_ready_tells_of_each_engine(http: httpx.Client) -> None:
    answer = http.get("/ready").json()
    assert answer["status"] == "ready"
    engine = answer["engines"]["espeak-ng"]
    assert engine["state"] == "ready"
    assert engine["workers"] >= 1
    assert engine["jobs"] >= 0
    assert engine["restarts"] >= 0


def test_other_origins_are_not_let_in_by_default(http: httpx.Client) -> None:
    origin = {"origin": "https://example.com"}
    preflight = {"access-control-request-method": "POST", **origin}
    for answer in (
        http.get("/v1/models", headers=origin),
        http.post(SPEECH, json=REQUEST, headers=origin),
        http.options(SPEECH, headers=preflight),
    ):
        assert "access-control-allow-origin" not in answer.headers


def test_a_body_over_the_limit_is_too_large(http: httpx.Client) -> None:
    body = b'{"input": "' + b"a" * OVER_ANY_LIMIT_BYTES + b'"}'
    headers = {"content-type": "application/json"}
    assert_envelope(http.post(SPEECH, content=body, headers=headers), 413)


def test_a_chunked_body_over_the_limit_is_too_large(http: httpx.Client) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(OVER_ANY_LIMIT_BYTES // 65_536):
            yield b"a" * 65_536

    headers = {"content-type": "application/json"}
    assert_envelope(http.post(SPEECH, content=parts(), headers=headers), 413)


def test_limits_are_settings(
    server_factory: Callable[[Mapping[str, str]], ServerProcess],
) -> None:
    small = server_factory(
        {"RHAPSODE_LIMITS__INPUT_CHARS": "10", "RHAPSODE_LIMITS__JSON_BYTES": "200"}
    )
    url = f"{small.base_url}{SPEECH}"
    assert httpx.post(url, json={**REQUEST, "input": "a" * 10}).is_success
    refusal = httpx.post(url, json={**REQUEST, "input": "a" * 11})
    assert_envelope(refusal, 400, param="input", code="string_above_max_length")
    assert_envelope(httpx.post(url, json={**REQUEST, "input": "a" * 200}), 413)


def test_one_connection_survives_its_errors(http: httpx.Client) -> None:
    for path in ("/v1/models/nope", "/no-such-route", SPEECH):
        assert http.get(path).status_code in {404, 405}
    assert http.post(SPEECH, json=REQUEST).is_success


@pytest.mark.parametrize("key", ["not-needed", ""])
def test_any_key_or_none_is_fine_when_auth_is_off(
    server: ServerProcess | ForeignServer, key: str
) -> None:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    answer = httpx.post(f"{server.base_url}{SPEECH}", json=REQUEST, headers=headers)
    assert answer.is_success


@pytest.fixture(scope="module")
def guarded(server_factory: Callable[[Mapping[str, str]], ServerProcess]) -> ServerProcess:
    """A server that asks for a key."""
    return server_factory({"RHAPSODE_API_KEYS": ",".join(KEYS)})


@pytest.mark.parametrize("key", KEYS)
def test_each_configured_key_opens(guarded: ServerProcess, key: str) -> None:
    with OpenAI(base_url=f"{guarded.base_url}/v1", api_key=key, max_retries=0) as client:
        assert client.audio.speech.create(model="tts-1", voice="alloy", input="Hi.").content


def test_a_wrong_key_is_refused_and_neither_echoed_nor_logged(guarded: ServerProcess) -> None:
    wrong = "sk-wrong-0123456789abcdef"
    with (
        OpenAI(base_url=f"{guarded.base_url}/v1", api_key=wrong, max_retries=0) as client,
        pytest.raises(AuthenticationError) as caught,
    ):
        client.audio.speech.create(model="tts-1", voice="alloy", input="Hi.")
    assert_sdk_error(caught.value, code="invalid_api_key")
    assert wrong not in caught.value.message
    assert not any(wrong in line for line in guarded.lines())


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"authorization": "Bearer"}, id="empty"),
        pytest.param({"authorization": KEYS[0]}, id="no scheme"),
        pytest.param({"authorization": f"Basic {KEYS[0]}"}, id="another scheme"),
        pytest.param({"authorization": f"Bearer {KEYS[0]}x"}, id="a longer key"),
        pytest.param({"authorization": f"Bearer {KEYS[0][:-1]}"}, id="a shorter key"),
        pytest.param({"authorization": b"Bearer sk-\xff\xfe"}, id="bytes outside ASCII"),
    ],
)
def test_a_request_without_a_right_key_is_refused(
    guarded: ServerProcess, headers: dict[str, str | bytes]
) -> None:
    sent = [
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in headers.items()
    ]
    answer = httpx.post(f"{guarded.base_url}{SPEECH}", json=REQUEST, headers=sent)
    assert_envelope(answer, 401, code="invalid_api_key")


def test_the_scheme_is_read_in_any_case(guarded: ServerProcess) -> None:
    headers = {"authorization": f"bearer {KEYS[0]}"}
    assert httpx.post(f"{guarded.base_url}{SPEECH}", json=REQUEST, headers=headers).is_success


@pytest.mark.parametrize("path", [TRANSCRIPTIONS, "/v1/audio/translations"])
def test_an_upload_needs_a_key_too(guarded: ServerProcess, weather_wav: bytes, path: str) -> None:
    form, files = {"model": "whisper-1"}, {"file": ("a.wav", weather_wav)}
    for headers in ({}, {"authorization": "Bearer sk-wrong"}):
        url = f"{guarded.base_url}{path}"
        answer = httpx.post(url, data=form, files=files, headers=headers)
        assert_envelope(answer, 401, code="invalid_api_key")


def test_an_upload_with_a_key_is_heard(guarded: ServerProcess, weather_wav: bytes) -> None:
    with OpenAI(base_url=f"{guarded.base_url}/v1", api_key=KEYS[1], max_retries=0) as client:
        assert client.audio.transcriptions.create(model="whisper-1", file=weather_wav).text


@pytest.mark.parametrize("path", ["/v1/audio/voices", "/v1/audio/models", "/health", "/ready"])
def test_what_clients_ask_without_a_key_is_open(guarded: ServerProcess, path: str) -> None:
    assert httpx.get(f"{guarded.base_url}{path}").status_code == 200
