"""The pure half: where the weights should be, and who leaves a device."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import PoolConfig
from engine.runtime.residency import Holding, Residency, Stance, evictions, excess_bytes


def resident(idle_offload_s: float = 0.0, idle_stop_s: float = 0.0) -> Residency:
    """Came to its device at 0."""
    state = Residency(idle_offload_s, idle_stop_s, 0.0)
    assert state.residence == "loading"
    assert state.begin() == "load"
    state.can_offload = True
    state.done(0.0)
    assert state.begin() is None
    return state


def offloaded() -> Residency:
    state = resident()
    state.want("offloaded")
    assert state.begin() == "offload"
    state.done(1.0)
    return state


def test_it_leaves_its_device_when_the_idle_clock_says_so_and_not_before() -> None:
    state = resident(idle_offload_s=60.0)
    assert state.doze_at() == 60.0
    state.doze(59.9)
    assert state.begin() is None
    state.doze(60.0)
    assert state.begin() == "offload"
    assert not state.is_awake
    state.done(61.0)
    assert state.residence == "offloaded"
    assert state.doze_at() is None


def test_idle_time_counts_from_the_end_of_the_last_job() -> None:
    state = resident(idle_offload_s=60.0)
    state.lease()
    state.lease()
    state.release(50.0)
    assert state.doze_at() is None
    state.doze(1000.0)
    assert state.begin() is None
    state.release(1000.0)
    assert state.doze_at() == 1060.0


def test_an_offloaded_worker_ends_when_it_is_idle_for_longer() -> None:
    state = resident(idle_offload_s=60.0, idle_stop_s=600.0)
    state.doze(60.0)
    assert state.begin() == "offload"
    state.done(60.5)
    assert state.doze_at() == 600.0
    state.doze(600.0)
    assert state.begin() == "stop"
    state.done(600.0)
    assert state.residence == "stopped"
    state.want("resident")
    assert (state.residence, state.begin()) == ("loading", "load")


def test_an_engine_that_cannot_leave_its_device_is_always_resident() -> None:
    state = Residency(60.0, 0.0, 0.0)
    state.begin()
    state.done(0.0)
    assert state.doze_at() is None
    state.doze(1e9)
    assert (state.goal, state.residence) == ("resident", "resident")


def test_a_request_during_the_move_turns_it_round_at_its_end() -> None:
    state = resident()
    state.want("offloaded")
    assert state.begin() == "offload"
    state.want("resident")
    state.done(1.0)
    assert (state.residence, state.is_awake) == ("loading", False)
    assert state.begin() == "restore"
    state.done(2.0)
    assert state.is_awake


def test_a_request_before_the_move_began_keeps_it_where_it_is() -> None:
    state = resident(idle_offload_s=60.0)
    state.doze(60.0)
    state.lease()
    assert state.is_awake
    assert state.begin() is None


def test_a_worker_that_dies_in_its_sleep_stays_down_until_it_is_needed() -> None:
    state = offloaded()
    state.died()
    assert (state.residence, state.begin()) == ("stopped", None)
    state.want("resident")
    assert state.begin() == "load"


def test_a_worker_that_dies_at_work_is_to_come_back() -> None:
    state = resident()
    state.died()
    assert (state.residence, state.begin()) == ("loading", "load")


EVENT = st.sampled_from(
    ["lease", "release", "wake", "doze", "move", "done", "die", "offload", "stop"]
)


@given(st.lists(st.tuples(EVENT, st.floats(0.0, 100.0)), max_size=60))
def test_nothing_that_is_leased_is_ever_sent_away(events: list[tuple[str, float]]) -> None:
    state, now, moving = resident(60.0, 120.0), 0.0, None
    for event, passed_s in events:
        now += passed_s
        match event:
            case "lease":
                state.lease()
            case "release" if state.leases:
                state.release(now)
            case "wake":
                state.want("resident")
            case "doze":
                state.doze(now)
            case "move" if moving is None:
                moving = state.begin()
                assert moving not in ("offload", "stop") or not state.leases
            case "done" if moving is not None:
                state.done(now)
                moving = None
            case "die" if moving is None:
                state.died()
            case "offload" | "stop" if not state.leases:
                state.want("stopped" if event == "stop" else "offloaded")
    if moving is not None:
        state.done(now)
    # Whatever has happened, a request wakes it in at most one move.
    state.want("resident")
    if state.begin() is not None:
        state.done(now)
    assert state.is_awake


def holding(held_bytes: int, idle_since: float, stance: Stance = "idle") -> Holding:
    return Holding(bytes=held_bytes, idle_since=idle_since, stance=stance)


def test_the_longest_idle_leaves_and_no_more_than_it_takes() -> None:
    holdings = [holding(4, 30.0), holding(4, 10.0), holding(4, 20.0)]
    assert evictions(holdings, excess_bytes(holdings, 4, budget_bytes=12)) == (1,)
    assert evictions(holdings, excess_bytes(holdings, 5, budget_bytes=12)) == (1, 2)
    assert evictions(holdings, excess_bytes(holdings, 0, budget_bytes=12)) == ()


def test_who_works_stays_and_who_sleeps_ends_last() -> None:
    holdings = [holding(4, 0.0, "working"), holding(1, 1.0, "asleep"), holding(4, 2.0)]
    assert evictions(holdings, 4) == (2,)
    assert evictions(holdings, 100) == (2, 1)


def test_room_that_is_about_to_be_freed_is_not_freed_twice() -> None:
    holdings = [holding(4, 1.0, "leaving"), holding(4, 0.0)]
    assert evictions(holdings, 4) == ()
    assert evictions(holdings, 5) == (1,)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"idle_offload_s": -1.0}, "idle_offload_s"),
        ({"idle_offload_s": float("nan")}, "idle_offload_s"),
        ({"idle_offload_s": 60.0, "idle_stop_s": 60.0}, "idle_stop_s must be above"),
        ({"wake_s": 0.0}, "wake_s"),
        ({"device_budget_bytes": 0}, "device_budget_bytes"),
        ({"max_load": -0.1}, "max_load"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PoolConfig(**fields)  # type: ignore[arg-type]
