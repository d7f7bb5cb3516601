"""Requests that mean harm: each is refused, soon, and costs no memory to speak of."""

import io
import json
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from litestar.testing import TestClient

from server.app import create_app
from server.catalog import Engines
from server.settings import Settings
from server.tests.fakes import FakeEngine, FakeListener

SPEECH = "/v1/audio/speech"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
VOICES = "/v1/audio/voices"
IMPORT = "/v1/audio/voices/import"
JSON = "application/json"
FORM = "multipart/form-data; boundary=b"
URL_ENCODED = "application/x-www-form-urlencoded"
WITHIN_S = 5.0
"""Of processor time: none of them takes a tenth of it on a machine that is idle."""
MEMORY_BYTES = 128 << 20


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient[Any]]:
    engines = Engines({"espeak-ng": FakeEngine()}, {"pocketsphinx": FakeListener()})
    with TestClient(create_app(Settings(), engines), raise_server_exceptions=False) as client:
        yield client


def speech(**fields: bytes) -> bytes:
    known = {"model": b'"tts-1"', "voice": b'"low"', "input": b'"hi"', **fields}
    return b"{" + b",".join(b'"%s":%s' % (n.encode(), v) for n, v in known.items()) + b"}"


def part(name: str, value: bytes, more: str = "") -> bytes:
    head = f'--b\r\ncontent-disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b--\r\n"


def recording(*parts: bytes) -> bytes:
    return form(part("file", b"RIFF", '; filename="a.wav"'), part("model", b"whisper-1"), *parts)


def imported(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return form(part("file", buffer.getvalue(), '; filename="v.zip"'))


def lying_archive() -> bytes:
    """A file of 200 MiB that says that it has 100 bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("profile.json", b" " * (200 << 20))
        archive.writestr("prompt.flac", b"")
    data = bytearray(buffer.getvalue())
    entry = data.index(b"PK\x01\x02")
    data[22:26] = data[entry + 24 : entry + 28] = (100).to_bytes(4, "little")
    return form(part("file", bytes(data), '; filename="v.zip"'))


BODIES: dict[str, tuple[str, str, bytes, int]] = {
    "json: nothing but brackets": (SPEECH, JSON, b"[" * 1_000_000, 400),
    "json: a deep list": (SPEECH, JSON, speech(x=b"[" * 400_000 + b"]" * 400_000), 400),
    "json: a deep object": (SPEECH, JSON, b'{"a":' * 150_000 + b"1" + b"}" * 150_000, 400),
    "json: a body without end": (SPEECH, JSON, speech(input=b'"%s"' % (b"a" * (2 << 20))), 413),
    "json: a number of a million digits": (SPEECH, JSON, speech(seed=b"9" * 1_000_000), 400),
    "json: the same as text": (SPEECH, JSON, speech(seed=b'"%s"' % (b"9" * 1_000_000)), 400),
    "json: an exponent without end": (SPEECH, JSON, speech(speed=b"1e" + b"9" * 900_000), 400),
    "json: many keys": (
        SPEECH,
        JSON,
        b"{" + b",".join(b'"k%d":1' % n for n in range(80_000)) + b"}",
        400,
    ),
    "form: 10,000 fields": (
        TRANSCRIPTIONS,
        FORM,
        recording(*(part(f"f{n}", b"x") for n in range(10_000))),
        400,
    ),
    "form: 100,000 boundaries": (TRANSCRIPTIONS, FORM, b"--b\r\n" * 100_000, 400),
    "form: 20 MB of text": (
        TRANSCRIPTIONS,
        FORM,
        recording(part("prompt", b"a" * 20_000_000)),
        413,
    ),
    "form: a list of millions": (
        TRANSCRIPTIONS,
        FORM,
        recording(part("timestamp_granularities", b"a," * 5_000_000)),
        413,
    ),
    "form: deep JSON in a field": (
        TRANSCRIPTIONS,
        FORM,
        recording(part("chunking_strategy", b"[" * 900_000)),
        400,
    ),
    "form: a header of a megabyte": (
        TRANSCRIPTIONS,
        FORM,
        b"--b\r\nx-a: " + b"a" * 1_000_000 + b"\r\n\r\n",
        400,
    ),
    "form: no boundary": (TRANSCRIPTIONS, "multipart/form-data", b"x", 400),
    "form: no text": (TRANSCRIPTIONS, FORM, form(part("prompt", b"\xff\xfe")), 400),
    "form: an unknown charset": (
        TRANSCRIPTIONS,
        FORM,
        form(part("prompt", b"a", "\r\ncontent-type: text/plain; charset=nope")),
        400,
    ),
    "form: a charset that is none": (
        TRANSCRIPTIONS,
        FORM,
        form(part("prompt", b"a", "\r\ncontent-type: text/plain; charset=rot13")),
        400,
    ),
    "form: a file name that is a header": (
        TRANSCRIPTIONS,
        FORM,
        form(part("file", b"RIFF", '; filename="a\r\nset-cookie: x=1"')),
        400,
    ),
    "form: a file name that is a path": (
        TRANSCRIPTIONS,
        FORM,
        form(part("file", b"RIFF", '; filename="../../etc/passwd"'), part("model", b"whisper-1")),
        400,
    ),
    "urlencoded: 10,000 fields": ("/api/tts", URL_ENCODED, b"a=b&" * 10_000, 400),
    "urlencoded: 20 MB": ("/api/tts", URL_ENCODED, b"text=" + b"a" * 20_000_000, 413),
    "urlencoded: no text": ("/api/tts", URL_ENCODED, b"text=%ff%fe&voice_id=low", 400),
    "zip: a bomb": (IMPORT, FORM, imported(("profile.json", b" " * (200 << 20))), 413),
    "zip: a bomb that lies about its size": (IMPORT, FORM, lying_archive(), 400),
    "zip: a path": (IMPORT, FORM, imported(("../../x", b"x"), ("profile.json", b"{}")), 400),
    "zip: 10,000 files": (
        IMPORT,
        FORM,
        imported(*((f"features/{n}", b"") for n in range(10_000)), method=zipfile.ZIP_STORED),
        400,
    ),
    "zip: deep JSON": (
        IMPORT,
        FORM,
        imported(("profile.json", b'{"name":' + b"[" * 9_000_000), ("prompt.flac", b"x")),
        400,
    ),
    "zip: a packing that is not read": (
        IMPORT,
        FORM,
        imported(("profile.json", b"x"), method=zipfile.ZIP_BZIP2),
        400,
    ),
}

PATHS = (
    *(f"{VOICES}/{{}}", f"{VOICES}/{{}}/audio", f"{VOICES}/{{}}/export"),
    *("/v1/audio/voice_consents/{}", "/v1/models/{}", "/v1/engines/{}", "/api/voices/{}"),
    *("/static/{}", "/static/js/{}", "/{}"),
)
EVIL = (
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "../../../../etc/passwd",
    "..%5c..%5cwindows%5cwin.ini",
    "%2fetc%2fpasswd",
    "....//....//etc/passwd",
    "%00",
    "low%00.flac",
    "%ff%fe",
    "a%0d%0aset-cookie:%20x=1",
    "a" * 5000,
)


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_refused_soon(client: TestClient[Any], name: str) -> None:
    path, media_type, body, status = BODIES[name]
    tracemalloc.start()
    begun = time.process_time()
    try:
        answer = client.post(path, content=body, headers={"content-type": media_type})
        taken_s, (_, peak_bytes) = time.process_time() - begun, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert len(answer.content) < 2000
    assert taken_s < WITHIN_S
    assert peak_bytes < MEMORY_BYTES


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH", "POST"])
@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_to_a_file(client: TestClient[Any], method: str, path: str) -> None:
    for evil in EVIL:
        answer = client.request(
            method, path.format(evil), json={"name": "b"}, follow_redirects=False
        )
        assert answer.status_code in (400, 404, 405), evil
        assert "set-cookie" not in answer.headers
        assert "root:" not in answer.text


@pytest.mark.parametrize("voice", ["../../etc/passwd", "a\r\nset-cookie: x=1", "\0", "a" * 100_000])
def test_a_voices_name_reaches_no_header_and_no_file(client: TestClient[Any], voice: str) -> None:
    body = json.loads(speech())
    answer = client.post(SPEECH, json={**body, "voice": voice})
    assert "set-cookie" not in answer.headers
    assert "\r" not in "".join(answer.headers.values())


@pytest.mark.parametrize(
    "path", ["//evil.example/", "/%5cevil.example", "/v1//models", "/v1/models/"]
)
def test_nobody_is_sent_elsewhere(client: TestClient[Any], path: str) -> None:
    answer = client.get(path, follow_redirects=False)
    assert answer.status_code in (200, 404)
    assert "location" not in answer.headers


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.wav", "file:///etc/passwd", "ftp://a/b"])
def test_no_url_is_fetched(client: TestClient[Any], url: str) -> None:
    answer = client.post(SPEECH, json={**json.loads(speech()), "ref_audio": url})
    assert answer.status_code == 400
    assert "no URL is fetched" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/nope", "/static/nope", "/v1/requests"])
def test_every_answer_forbids_a_browser_to_guess_or_to_frame(
    client: TestClient[Any], path: str
) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_the_page_keeps_its_own_policy(client: TestClient[Any]) -> None:
    headers = client.get("/", headers={"accept": "text/html"}).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["content-security-policy"].count("frame-ancestors") == 1


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_audio_too_is_what_it_says(client: TestClient[Any], accept: str) -> None:
    answer = client.post(SPEECH, content=speech(), headers={"content-type": JSON, "accept": accept})
    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
