"""What a running server answers to anything that its description allows, and to what it does not.

Not asked of it: that it refuses whatever breaks a schema, or takes whatever keeps one. Fields that
it does not know are ignored, numbers come as text, and names of voices are known to nobody before.
"""

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode, Response
from schemathesis.checks import CheckContext, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from compat_tests.process import ServerProcess
from server.openapi import describe
from server.tests.fake_voices import recording
from server.tests.fuzz.effort import tries

Operation = APIOperation[Any, Any, Any, Any]
AnyCase = Case[Any]


def names_its_charset_once(_: CheckContext, response: Response, __: AnyCase) -> None:
    for media_type in response.headers.get("content-type", []):
        assert media_type.count("charset=") <= 1, media_type


CHECKS = [
    names_its_charset_once,
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
EXAMPLES = 12
TIMEOUT_S = 30.0
SHORT = recording(0.4)
LONG = recording(4.0)

HANDSHAKE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}
ACCEPT = (None, "text/event-stream", "text/html", "application/json, text/event-stream")
"""None: anything."""

DOCUMENT = json.loads(describe(has_keys=False, open_catalog=False))
OPERATIONS: dict[str, Operation] = {
    found.ok().label: found.ok()
    for found in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()
    if isinstance(found, Ok)
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("schemathesis")
    homes = {"XDG_DATA_HOME": str(folder / "data"), "XDG_CACHE_HOME": str(folder / "cache")}
    process = ServerProcess(folder / "log", homes)
    process.wait_until_ready()
    yield process
    assert process.stop() == 0


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.fixture
def sensible(label: str, server: ServerProcess, session: requests.Session) -> dict[str, list[Any]]:
    """What random text never hits, by the names of fields and parameters."""
    url = f"{server.base_url}/v1/audio"
    # A caller may keep so many: without what the last operation left there is room again.
    for voice in session.get(f"{url}/voices").json()["uploaded_voices"]:
        session.delete(f"{url}/voices/{voice['id']}").raise_for_status()
    for kept in session.get(f"{url}/voice_consents?limit=100").json()["data"]:
        session.delete(f"{url}/voice_consents/{kept['id']}").raise_for_status()
    fields, files = {"name": "Ada", "ref_text": "Hello."}, {"audio_sample": LONG}
    session.post(f"{url}/voices", fields, files=files).raise_for_status()
    consent = {"name": "Ada", "language": "en"}
    answer = session.post(f"{url}/voice_consents", consent, files={"recording": ("a.wav", SHORT)})
    exported = session.get(f"{url}/voices/Ada/export").content
    return {
        "model": ["tts-1" if "speech" in label else "whisper-1", "no-such-model"],
        "model_id": ["tts-1"],
        "voice": ["alloy", "Ada", "import"],
        "voice_id": ["alloy", "Ada"],
        "consent": [answer.json()["id"]],
        "name": ["Eve", "espeak-ng", "pocketsphinx"],
        "input": ["Hello."],
        "text": ["Hello."],
        "language": ["en"],
        "languages": [["en"]],
        "sample_rate": [24_000, 48_000],
        "ref_audio": [b64encode(LONG).decode()],
        "file": [SHORT, exported],
        "audio_sample": [LONG],
        "audio": [LONG],
        "prompt_audio": [LONG],
        "recording": [SHORT],
        "path": ["index.html", "style.css"],
        "limit": [5],
        "stream": [True],
        "stream_format": ["sse"],
        "timestamp_granularities": [["word"]],
        "jsonrpc": ["2.0"],
        "id": [1],
        "method": ["initialize"],
        "params": [HANDSHAKE],
    }


def test_every_operation_can_be_tried() -> None:
    assert len(OPERATIONS) == sum(map(len, DOCUMENT["paths"].values()))


def cases(operation: Operation) -> st.SearchStrategy[AnyCase]:
    """As described, and otherwise."""
    modes = [GenerationMode.POSITIVE]
    if operation.body or operation.path_parameters or operation.query:
        modes.append(GenerationMode.NEGATIVE)
    return st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes))


def make_sensible(case: AnyCase, sensible: dict[str, list[Any]], data: st.DataObject) -> None:
    """Put values in that lead further than the first check: in some fields, or in all that have
    one, and then the others are left out."""
    share = data.draw(st.sampled_from(("none", "some", "alone", "alone")), label="sensible")
    for fields in (case.path_parameters, case.query, case.body):
        if share == "none" or not isinstance(fields, dict):
            continue
        for name in sorted(fields):
            if name not in sensible:
                if share == "alone":
                    del fields[name]
            elif share == "alone" or data.draw(st.booleans()):
                fields[name] = data.draw(st.sampled_from(sensible[name]), label=name)
    if isinstance(case.body, dict) and {"audio", "audio_sample"} & case.body.keys():
        # To find words in something that is no speech takes a recogniser seconds.
        case.body["skip_whisper"] = True


@pytest.mark.parametrize("label", OPERATIONS)
def test_server_answers_as_its_description_says(
    label: str,
    server: ServerProcess,
    session: requests.Session,
    sensible: dict[str, list[Any]],
) -> None:
    @tries(EXAMPLES)
    @given(st.data())
    def answers_as_described(data: st.DataObject) -> None:
        case = data.draw(cases(OPERATIONS[label]))
        make_sensible(case, sensible, data)
        case.call_and_validate(
            base_url=server.base_url,
            session=session,
            headers={"accept": data.draw(st.sampled_from(ACCEPT), label="accept") or "*/*"},
            checks=CHECKS,
            timeout=TIMEOUT_S,
        )

    answers_as_described()
