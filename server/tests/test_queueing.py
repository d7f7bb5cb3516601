"""Who runs, who waits, who is next."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from engine.config import PoolConfig
from engine.errors import Overloaded
from server.context import RequestContext
from server.errors import ApiError
from server.keys import Key, Keyring
from server.queueing import FairQueue, Waiter
from server.quotas import Quotas
from server.settings import EngineSettings, KeyLimits, QueueSettings, Settings
from server.turns import Turns

pytestmark = pytest.mark.anyio
ENGINE = "espeak-ng"


def waiters(names: str, *, is_batch: bool = False) -> list[Waiter]:
    return [Waiter(name, is_batch) for name in names]


def full_queue(*waiting: Waiter, slots: int = 1) -> FairQueue:
    queue = FairQueue(slots, waiting=64, key_waiting=64)
    assert all(queue.enter(Waiter(None, is_batch=False)) for _ in range(slots))
    assert not any(queue.enter(each) for each in waiting)
    return queue


def order(queue: FairQueue, waiting: list[Waiter]) -> list[int]:
    called = []
    while (waiter := queue.leave()) is not None:
        called.append(waiting.index(waiter))
    return called


def test_all_run_while_there_are_slots() -> None:
    queue = FairQueue(3, waiting=0, key_waiting=0)
    assert all(queue.enter(each) for each in waiters("aab"))
    with pytest.raises(Overloaded):
        queue.enter(Waiter("b", is_batch=False))
    assert queue.leave() is None
    assert queue.enter(Waiter("a", is_batch=True))
    assert (queue.running, queue.waiting) == (3, 0)


def test_keys_take_turns_however_much_one_of_them_wants() -> None:
    waiting = waiters("aaaabbc")
    assert order(full_queue(*waiting), waiting) == [0, 4, 6, 1, 5, 2, 3]


def test_a_key_that_comes_late_waits_for_one_turn_of_each_other() -> None:
    waiting = waiters("aaabbb")
    queue = full_queue(*waiting)
    assert queue.leave() is waiting[0]
    late = Waiter("c", is_batch=False)
    queue.enter(late)
    assert [queue.leave() for _ in range(3)] == [waiting[3], waiting[1], late]


def test_batch_work_runs_when_nobody_else_waits() -> None:
    waiting = [*waiters("ab", is_batch=True), *waiters("aa")]
    assert order(full_queue(*waiting), waiting) == [2, 3, 0, 1]


def test_who_gives_up_is_not_called() -> None:
    waiting = waiters("aab")
    queue = full_queue(*waiting)
    queue.give_up(waiting[0])
    queue.give_up(waiting[2])
    assert order(queue, waiting) == [1]
    assert (queue.running, queue.waiting) == (0, 0)


def test_a_queue_is_bounded_for_all_and_for_each_key() -> None:
    queue = FairQueue(1, waiting=3, key_waiting=2)
    queue.enter(Waiter("a", is_batch=False))
    queue.enter(Waiter("a", is_batch=False))
    queue.enter(Waiter("a", is_batch=True))
    with pytest.raises(Overloaded, match="of this API key"):
        queue.enter(Waiter("a", is_batch=False))
    queue.enter(Waiter("b", is_batch=False))
    with pytest.raises(Overloaded, match="so is its queue"):
        queue.enter(Waiter("b", is_batch=False))
    assert queue.waiting == 3


def test_without_keys_the_queue_is_everybodys() -> None:
    queue = FairQueue(1, waiting=3, key_waiting=1)
    assert [queue.enter(Waiter(None, is_batch=False)) for _ in range(4)] == [True] + 3 * [False]


def turns_of(queue: QueueSettings, *keys: Key) -> Turns:
    settings = Settings(pool=PoolConfig(max_jobs=1), queue=queue)
    return Turns(settings, Quotas(Keyring(keys)))


def context(key: str | None = None, *, is_batch: bool = False) -> RequestContext:
    return RequestContext("req_1", 0.0, key, is_batch)


class Job:
    """Parts of a request on an engine: one now, one when it is released."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.released = asyncio.Event()
        self.is_closed = False

    async def parts(self) -> AsyncGenerator[int, None]:
        try:
            self.begun.set()
            yield 1
            await self.released.wait()
            yield 2
        finally:
            self.is_closed = True


async def all_of(parts: AsyncGenerator[int, None]) -> list[int]:
    return [part async for part in parts]


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0)


async def test_the_next_begins_when_one_ends() -> None:
    turns, first, second = turns_of(QueueSettings(wait_s=60)), Job(), Job()
    running = asyncio.create_task(all_of(turns.taken(ENGINE, context(), first.parts())))
    await first.begun.wait()
    waiting = asyncio.create_task(all_of(turns.taken(ENGINE, context(), second.parts())))
    await until(lambda: turns.queue_of(ENGINE).waiting == 1)
    assert not second.begun.is_set()
    first.released.set()
    second.released.set()
    assert await running == await waiting == [1, 2]
    assert (turns.queue_of(ENGINE).running, turns.queue_of(ENGINE).waiting) == (0, 0)


async def test_who_waits_too_long_is_refused_and_forgotten() -> None:
    turns, first = turns_of(QueueSettings(wait_s=0.01, batch_wait_s=60)), Job()
    running = asyncio.create_task(all_of(turns.taken(ENGINE, context(), first.parts())))
    await first.begun.wait()
    patient = Job()
    batch = context(is_batch=True)
    waiting = asyncio.create_task(all_of(turns.taken(ENGINE, batch, patient.parts())))
    with pytest.raises(Overloaded, match=r"waited 0\.01 s") as refused:
        await all_of(turns.taken(ENGINE, context(), Job().parts()))
    assert refused.value.retry_after_s
    assert turns.queue_of(ENGINE).waiting == 1
    first.released.set()
    patient.released.set()
    assert await running == await waiting == [1, 2]


@pytest.mark.parametrize("is_called_first", [False, True])
async def test_who_leaves_the_queue_leaves_no_slot_behind(is_called_first: bool) -> None:
    turns, first, second = turns_of(QueueSettings(wait_s=60)), Job(), Job()
    parts = turns.taken(ENGINE, context(), first.parts())
    assert await anext(parts) == 1
    leaving = asyncio.create_task(all_of(turns.taken(ENGINE, context(), Job().parts())))
    await until(lambda: turns.queue_of(ENGINE).waiting == 1)
    staying = asyncio.create_task(all_of(turns.taken(ENGINE, context(), second.parts())))
    await until(lambda: turns.queue_of(ENGINE).waiting == 2)
    if is_called_first:
        await parts.aclose()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    if not is_called_first:
        await parts.aclose()
    assert first.is_closed
    second.released.set()
    assert await staying == [1, 2]
    assert (turns.queue_of(ENGINE).running, turns.queue_of(ENGINE).waiting) == (0, 0)


async def test_a_job_that_fails_gives_its_slot_back() -> None:
    async def broken() -> AsyncGenerator[int, None]:
        yield 1
        raise ApiError(500, "broken")

    turns, job = turns_of(QueueSettings(waiting=0)), Job()
    with pytest.raises(ApiError):
        await all_of(turns.taken(ENGINE, context(), broken()))
    job.released.set()
    assert await all_of(turns.taken(ENGINE, context(), job.parts())) == [1, 2]


async def test_a_refused_request_holds_nothing_and_closes_its_parts() -> None:
    ada = Key("ada", "", KeyLimits(requests_in_flight=1, chars_per_minute=5))
    turns, job = turns_of(QueueSettings(), ada), Job()
    parts = turns.taken(ENGINE, context("ada"), job.parts(), characters=5)
    assert await anext(parts) == 1
    with pytest.raises(ApiError, match="requests at once: 1"):
        await all_of(turns.taken(ENGINE, context("ada"), Job().parts()))
    await parts.aclose()
    with pytest.raises(ApiError, match="characters a minute: 5"):
        await all_of(turns.taken(ENGINE, context("ada"), Job().parts(), characters=1))
    assert turns.queue_of(ENGINE).running == 0
    job.released.set()
    assert await all_of(turns.taken(ENGINE, context("bob"), job.parts())) == [1, 2]


async def test_an_engines_own_slots_stay_below_the_pools() -> None:
    engines = {"espeak-ng": EngineSettings(max_jobs=3), "whisper": EngineSettings(max_jobs=30)}
    settings = Settings(pool=PoolConfig(max_jobs=10), engines=engines)
    slots = [settings.max_jobs_of(name) for name in ("espeak-ng", "whisper", "pocketsphinx")]
    assert slots == [3, 10, 10]
