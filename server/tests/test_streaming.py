import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from litestar.types import Message, Receive

from engine.errors import EngineFault
from engine.types import PcmChunk, SynthesisRequest, Word
from server.audio.encoder import create_encoder
from server.audio.shaper import Shaper
from server.context import RequestContext
from server.errors import ClientGone
from server.meters import SpeechMeter
from server.recents import Asked, Ledger
from server.speech import SpeechPlan, as_events
from server.streaming import EncodedChunk, StreamedBody, encode_chunks, unless_gone
from server.tests.fakes import SAMPLE_RATE, tone

pytestmark = pytest.mark.anyio


class Source:
    """Chunks of speech that know whether they were closed."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count = count
        self.error = error
        self.is_open = False

    async def chunks(self) -> AsyncGenerator[PcmChunk, None]:
        self.is_open = True
        try:
            for index in range(self.count):
                yield PcmChunk(tone(), (Word(f"w{index}", index / 10),))
            if self.error:
                raise self.error
        finally:
            self.is_open = False


def encoded(source: Source, response_format: Any = "pcm") -> AsyncGenerator[EncodedChunk, None]:
    encoder = create_encoder(response_format)
    return encode_chunks(source.chunks(), Shaper(SAMPLE_RATE, 24000), encoder, None)


def meter() -> SpeechMeter:
    asked = Asked(
        context=RequestContext("req_test", 0.0),
        task="speech",
        owner=None,
        model="tts-1",
        engine="fake",
        format="pcm",
    )
    return SpeechMeter(Ledger(), asked, SAMPLE_RATE)


def never() -> Receive:
    """A client that stays and says nothing more."""

    async def receive() -> Any:
        await asyncio.Event().wait()

    return receive


def leaves_when(event: asyncio.Event) -> Receive:
    async def receive() -> Any:
        await event.wait()
        return {"type": "http.disconnect"}

    return receive


async def bytes_of(chunks: AsyncIterator[EncodedChunk]) -> AsyncGenerator[bytes, None]:
    async for chunk in chunks:
        yield chunk.data


async def test_each_chunk_is_encoded_as_it_comes() -> None:
    chunks = [chunk async for chunk in encoded(Source(3))]
    expected = (tone() * 32767).round().astype("<i2").tobytes()
    assert [chunk.data for chunk in chunks] == [expected] * 3
    assert [chunk.words[0].text for chunk in chunks] == ["w0", "w1", "w2"]


async def test_words_wait_for_the_bytes_they_begin_in() -> None:
    chunks = [chunk async for chunk in encoded(Source(4), "aac")]
    words = [word.text for chunk in chunks for word in chunk.words]
    assert words == ["w0", "w1", "w2", "w3"]
    assert all(chunk.data for chunk in chunks if chunk.words)


async def test_encoding_in_a_thread_gives_the_same_bytes() -> None:
    here = b"".join([chunk.data async for chunk in encoded(Source(5), "mp3")])
    with ThreadPoolExecutor(1) as threads:
        chunks = encode_chunks(
            Source(5).chunks(), Shaper(SAMPLE_RATE, 24000), create_encoder("mp3"), threads
        )
        assert b"".join([chunk.data async for chunk in chunks]) == here


async def test_closing_the_encoder_closes_the_engines_stream() -> None:
    source = Source(3)
    chunks = encoded(source)
    await anext(chunks)
    assert source.is_open
    await chunks.aclose()
    assert not source.is_open


async def test_work_is_cancelled_the_moment_the_client_leaves() -> None:
    left = asyncio.Event()
    ended = asyncio.Event()

    async def work() -> None:
        try:
            left.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(ClientGone):
        await unless_gone(leaves_when(left), work())
    assert ended.is_set()


async def test_outer_cancel_reaches_the_work() -> None:
    started = asyncio.Event()
    ended = asyncio.Event()

    async def work() -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(unless_gone(never(), work()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_failure_of_the_work_is_its_own() -> None:
    async def work() -> None:
        raise EngineFault("broke")

    with pytest.raises(EngineFault, match="broke"):
        await unless_gone(never(), work())


class Wire:
    """What a response sent, and how it said that it ended."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.ends: list[BaseException | None] = []

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    async def run(self, body: StreamedBody, receive: Receive) -> None:
        scope: Any = {}
        await body(scope, receive, self.send)

    @property
    def is_complete(self) -> bool:
        last = self.messages[-1]
        return last["type"] == "http.response.body" and not last["more_body"]


def body_of(source: Source, wire: Wire) -> StreamedBody:
    return StreamedBody(b"first", bytes_of(encoded(source)), "a/b", {"x": "y"}, wire.ends.append)


async def test_whole_stream_ends_with_a_last_message() -> None:
    wire = Wire()
    await wire.run(body_of(Source(2), wire), never())
    assert wire.messages[0]["type"] == "http.response.start"
    assert wire.messages[0]["status"] == 200
    assert {(b"content-type", b"a/b"), (b"x", b"y")} <= set(wire.messages[0]["headers"])
    assert wire.messages[1]["body"] == b"first"  # type: ignore[typeddict-item]
    assert wire.is_complete
    assert wire.ends == [None]


async def test_failed_stream_is_broken_off() -> None:
    wire = Wire()
    await wire.run(body_of(Source(2, EngineFault("broke")), wire), never())
    assert not wire.is_complete
    assert [str(end) for end in wire.ends] == ["broke"]


async def test_client_that_leaves_in_the_middle_closes_the_engines_stream() -> None:
    wire, left = Wire(), asyncio.Event()
    source = Source(10**9)
    sent = wire.send

    async def send(message: Message) -> None:
        await sent(message)
        if len(wire.messages) == 5:
            left.set()
        await asyncio.get_running_loop().run_in_executor(None, np.zeros, 1)

    wire.send = send  # type: ignore[method-assign]
    await wire.run(body_of(source, wire), leaves_when(left))
    assert not source.is_open
    assert [type(end) for end in wire.ends] == [ClientGone]


def plan() -> SpeechPlan:
    return SpeechPlan(
        request=SynthesisRequest(text="hello"),
        engine_rate=24_000,
        tempo=1.0,
        response_format="pcm",
        sample_rate=24_000,
    )


async def test_delta_of_an_engine_that_knows_no_progress_has_none() -> None:
    first = await anext(events(Source(1)))
    assert set(first) == {"type", "audio"}


async def test_progress_goes_with_the_bytes() -> None:
    async def chunks() -> AsyncGenerator[PcmChunk, None]:
        yield PcmChunk(tone(), progress=0.4)
        yield PcmChunk(tone(), progress=1.0)

    coded = encode_chunks(chunks(), Shaper(SAMPLE_RATE, 16000), create_encoder("pcm", 16000), None)
    assert [chunk.progress async for chunk in coded] == [0.4, 1.0, 1.0]


async def events(source: Source) -> AsyncGenerator[dict[str, Any], None]:
    async for event in as_events(encoded(source), meter(), plan()):
        yield json.loads(event.removeprefix(b"data: "))


async def test_failed_sse_stream_says_why_and_then_fails() -> None:
    seen = []

    async def read() -> None:
        async for event in events(Source(1, EngineFault("broke"))):
            seen.append(event)  # noqa: PERF401 - what came before the failure counts

    with pytest.raises(EngineFault):
        await read()
    assert [event["type"] for event in seen] == ["speech.audio.delta", "speech.audio.error"]
    assert seen[1]["error"]["message"] == "broke"


async def test_sse_stream_that_fails_at_once_sends_nothing() -> None:
    with pytest.raises(EngineFault):
        await anext(events(Source(0, EngineFault("broke"))))
