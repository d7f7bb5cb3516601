"""Prompts in the queue of the recogniser that hears them."""

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engine.config import PoolConfig
from server.app import create_library
from server.catalog import Catalog, Engines
from server.context import RequestContext
from server.decoders import Decoders
from server.keys import Keyring
from server.prompts import PromptReader
from server.quotas import Quotas
from server.settings import Settings
from server.tests.fake_voices import TEXT, Listener
from server.turns import Turns
from voices.profile import CheckedPrompt
from voices.tests.samples import REPORT

pytestmark = pytest.mark.anyio

SETTINGS = Settings(pool=PoolConfig(max_jobs=1))
PROMPT = CheckedPrompt(np.zeros(24_000, np.float32), 24_000, REPORT)


@pytest.fixture
def turns() -> Turns:
    return Turns(SETTINGS, Quotas(Keyring(())))


@pytest.fixture
def reader(turns: Turns) -> PromptReader:
    ears = Listener()
    catalog = Catalog(SETTINGS, Engines(transcription={ears.name: ears}))
    library = create_library(SETTINGS, catalog, ThreadPoolExecutor(1))
    return PromptReader(library, catalog, Decoders(1), turns)


def request(*, is_batch: bool = False) -> RequestContext:
    return RequestContext("req_1", 0.0, is_batch=is_batch)


async def one_part() -> AsyncGenerator[int, None]:
    yield 1


@pytest.mark.parametrize("is_batch", [False, True])
async def test_prompt_waits_for_its_turn_as_its_request_does(
    reader: PromptReader, turns: Turns, is_batch: bool
) -> None:
    queue = turns.queue_of("whisper")
    running = turns.taken("whisper", request(), one_part())
    assert await anext(running) == 1
    hearing = asyncio.create_task(reader.hear(PROMPT, None, request(is_batch=is_batch)))
    async with asyncio.timeout(5):
        while not queue.waiting_in(is_batch=is_batch):  # noqa: ASYNC110 - a plain object
            await asyncio.sleep(0)
    assert not hearing.done()
    await running.aclose()
    assert (await hearing).text == TEXT
    assert (queue.running, queue.waiting) == (0, 0)


async def test_turn_of_a_prompt_is_not_taken_for_that_of_its_speech(reader: PromptReader) -> None:
    context = request()
    await reader.hear(PROMPT, None, context)
    assert context.marks == {}
