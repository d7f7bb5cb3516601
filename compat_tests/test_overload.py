"""Full means a quick refusal, and the SDK comes back by itself."""

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from openai import OpenAI

from compat_tests.conftest import API_KEY, TIMEOUT_S
from compat_tests.process import ServerProcess, running_jobs
from compat_tests.texts import LONGEST, SENTENCE
from compat_tests.waiting import wait_for


@pytest.fixture(scope="module")
def narrow(server_factory: Callable[[Mapping[str, str]], ServerProcess]) -> ServerProcess:
    """A server that takes one job at a time."""
    return server_factory({"RHAPSODE_POOL__MAX_JOBS": "1"})


def sdk(server: ServerProcess, max_retries: int) -> OpenAI:
    return OpenAI(
        base_url=f"{server.base_url}/v1",
        api_key=API_KEY,
        max_retries=max_retries,
        timeout=TIMEOUT_S,
    )


def test_one_job_too_many_is_refused_and_the_sdk_comes_back(narrow: ServerProcess) -> None:
    with (
        sdk(narrow, max_retries=0) as once,
        sdk(narrow, max_retries=5) as patient,
        ThreadPoolExecutor(1) as threads,
    ):
        with once.audio.speech.with_streaming_response.create(
            model="tts-1", voice="alloy", input=LONGEST, response_format="pcm", speed=0.25
        ) as holder:
            # Kept: a generator that is dropped closes its connection.
            held = holder.iter_bytes(1024)
            assert next(held)
            with pytest.raises(openai.RateLimitError) as refused:
                once.audio.speech.create(model="tts-1", voice="alloy", input="hi")
            headers = refused.value.response.headers
            assert int(headers["retry-after"]) >= 1
            assert float(headers["retry-after-ms"]) > 0
            assert refused.value.type == "rate_limit_error"
            later = threads.submit(
                patient.audio.speech.create, model="tts-1", voice="alloy", input="hi"
            )
            wait_for(
                lambda: sum("status=429" in line for line in narrow.lines()) >= 2,
                TIMEOUT_S,
                "the patient client has been refused once",
            )
        wait_for(lambda: running_jobs(narrow.base_url) == 0, TIMEOUT_S, "the slot is free")
        assert later.result(TIMEOUT_S).content
    wait_for(
        lambda: any("outcome=done" in line and "retry=" in line for line in narrow.lines()),
        2.0,
        "the retry is logged",
    )


CROWD = 50
SPOKEN = {"model": "tts-1", "voice": "alloy", "input": SENTENCE, "response_format": "pcm"}


def ask_at_once(server: ServerProcess) -> tuple[bytes, list[httpx.Response]]:
    """What a lone client hears, and the answers of a crowd with the same request."""
    limits = httpx.Limits(max_connections=CROWD)
    with (
        httpx.Client(base_url=server.base_url, timeout=TIMEOUT_S, limits=limits) as http,
        ThreadPoolExecutor(CROWD) as threads,
    ):
        alone = http.post("/v1/audio/speech", json=SPOKEN).raise_for_status().content
        calls = [threads.submit(http.post, "/v1/audio/speech", json=SPOKEN) for _ in range(CROWD)]
        return alone, [call.result(TIMEOUT_S) for call in calls]


def test_a_crowd_hears_what_a_lone_client_hears(
    server_factory: Callable[[Mapping[str, str]], ServerProcess],
) -> None:
    alone, answers = ask_at_once(server_factory({}))
    assert Counter(answer.status_code for answer in answers) == {httpx.codes.OK: CROWD}
    assert all(answer.content == alone for answer in answers)


def test_a_crowd_that_is_too_large_is_served_or_told_to_come_back(
    server_factory: Callable[[Mapping[str, str]], ServerProcess],
) -> None:
    small = {"RHAPSODE_POOL__MAX_JOBS": "2", "RHAPSODE_QUEUE__WAITING": "4"}
    alone, answers = ask_at_once(server_factory(small))
    served = [answer for answer in answers if answer.status_code == httpx.codes.OK]
    refused = [answer for answer in answers if answer not in served]
    assert served
    assert refused
    assert all(answer.content == alone for answer in served)
    assert {answer.status_code for answer in refused} == {httpx.codes.TOO_MANY_REQUESTS}
    assert all(answer.json()["error"]["code"] == "overloaded" for answer in refused)
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
