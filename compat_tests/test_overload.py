"""Full means a quick refusal, and the SDK comes back by itself."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from openai import OpenAI

from compat_tests.conftest import API_KEY, TIMEOUT_S
from compat_tests.process import ServerProcess, running_jobs
from compat_tests.texts import LONGEST
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
