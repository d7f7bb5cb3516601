"""What is admitted, against engines whose true load is known."""

from collections.abc import Mapping
from math import ceil

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from engine.errors import Overloaded
from engine.runtime.capacity import Capacity
from engine.runtime.policy import Batch

MAX_LOAD = 0.9


class Stage(Struct, frozen=True):
    """A step of n jobs takes fixed_s + n * each_s; a second of audio takes `steps` of them."""

    fixed_s: float
    each_s: float
    steps: float
    limit: int

    def step_s(self, jobs: int) -> float:
        return self.fixed_s + jobs * self.each_s

    def load(self, streams: int) -> float:
        jobs = min(streams, self.limit)
        return self.steps * streams / jobs * self.step_s(jobs)


GPU = {"decode": Stage(1.1e-3, 1.5e-5, 25.0, 64), "render": Stage(8e-3, 5e-3, 0.5, 64)}
"""About what GLM-TTS is on one: its knee is at 278 streams."""


def true_load(stages: Mapping[str, Stage], streams: int) -> float:
    return sum(stage.load(streams) for stage in stages.values())


def knee(stages: Mapping[str, Stage]) -> int:
    """The most streams that the engine can keep playing."""
    streams = 0
    while true_load(stages, streams + 1) <= MAX_LOAD:
        streams += 1
    return streams


def is_admitted(capacity: Capacity, streams: int, now: float = 0.0) -> bool:
    try:
        capacity.admit(streams, now)
    except Overloaded:
        return False
    return True


def step(capacity: Capacity, name: str, stage: Stage, jobs: int, now: float = 0.0) -> None:
    jobs = min(jobs, stage.limit)
    batch = Batch(name, tuple(range(jobs)))
    capacity.stepped(batch, stage.limit, stage.step_s(jobs), now)


def end_one(capacity: Capacity, stages: Mapping[str, Stage]) -> None:
    """A clip of 8 s that took 20 s."""
    steps = {name: round(8 * stage.steps) for name, stage in stages.items()}
    capacity.ended(steps, 8.0, 20.0)


STAGE = st.builds(
    Stage,
    fixed_s=st.floats(1e-4, 5e-2),
    each_s=st.floats(1e-5, 1e-2),
    steps=st.sampled_from([0.125, 0.5, 2.0, 25.0]),
    limit=st.integers(1, 64),
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abc"), STAGE, min_size=1), st.sets(st.integers(1, 80)))
def test_it_refuses_above_the_knee_and_never_below(
    stages: dict[str, Stage], sizes: set[int]
) -> None:
    capacity = Capacity(MAX_LOAD)
    for _ in range(3):
        for name, stage in stages.items():
            for jobs in {1, stage.limit, *sizes}:
                step(capacity, name, stage, jobs)
    end_one(capacity, stages)
    for streams in range(1, 200):
        load = true_load(stages, streams + 1)
        assume(abs(load - MAX_LOAD) > 1e-6)
        assert is_admitted(capacity, streams) == (load < MAX_LOAD)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abc"), STAGE, min_size=1), st.sets(st.integers(1, 80)))
def test_what_it_has_not_seen_it_never_takes_for_worse_than_it_is(
    stages: dict[str, Stage], sizes: set[int]
) -> None:
    capacity = Capacity(MAX_LOAD)
    for streams in range(1, 100):
        assert is_admitted(capacity, streams)
    for _ in range(3):
        for jobs in sizes:
            for name, stage in stages.items():
                step(capacity, name, stage, jobs)
    end_one(capacity, stages)
    for streams in range(1, 200):
        assert capacity.load(streams, 0.0) <= true_load(stages, streams) * (1 + 1e-9)


def test_streams_that_keep_coming_settle_at_the_knee() -> None:
    capacity, playing, now, most = Capacity(MAX_LOAD), 0, 0.0, 0
    for tick in range(20_000):
        now += 0.01
        if playing:
            for name, stage in GPU.items():
                step(capacity, name, stage, playing, now)
        if tick % 7 == 0 and playing:
            end_one(capacity, GPU)
            playing -= 1
        while playing < 1000 and is_admitted(capacity, playing, now):
            playing += 1
            if tick < 100:
                break
        most = max(most, playing)
    assert most == knee(GPU)
    assert playing >= knee(GPU) - 1


def test_a_disturbance_is_forgotten() -> None:
    capacity = Capacity(MAX_LOAD)
    slow = {name: Stage(50 * s.fixed_s, 50 * s.each_s, s.steps, s.limit) for name, s in GPU.items()}
    end_one(capacity, GPU)
    for at, stages in ((0.0, GPU), (1.0, slow)):
        for _ in range(100):
            for name, stage in stages.items():
                step(capacity, name, stage, 40, at)
    assert not is_admitted(capacity, 39, 2.0)
    for _ in range(3):
        for name, stage in GPU.items():
            step(capacity, name, stage, 10, 62.0)
    assert is_admitted(capacity, 39, 62.0)


def test_a_step_that_hiccups_once_changes_little() -> None:
    capacity = Capacity(MAX_LOAD)
    end_one(capacity, GPU)
    for seconds in (30.0, 0.002, 0.002, 0.002, 5.0):
        capacity.stepped(Batch("decode", (1, 2)), 64, seconds, 0.0)
    assert capacity.load(2, 0.0) == pytest.approx(25 * 0.002 * 1.2)


def test_one_stream_alone_is_taken_however_slow_the_engine_is() -> None:
    slow = {"decode": Stage(1.0, 0.0, 25.0, 1)}
    capacity = Capacity(MAX_LOAD)
    for _ in range(3):
        step(capacity, "decode", slow["decode"], 1)
    end_one(capacity, slow)
    assert is_admitted(capacity, 0)
    with pytest.raises(Overloaded) as refused:
        capacity.admit(4, 0.0)
    assert refused.value.retry_after_s == ceil(20.0 / 4)
