from msgspec.structs import replace

from engine.runtime.policy import Batch, JobView, schedule


def waiting(job_id: int, stage: str = "render", waited_s: float = 0.0) -> JobView:
    return JobView(job_id=job_id, stage=stage, waited_s=waited_s, slack_s=None)


def playing(job_id: int, slack_s: float, stage: str = "render") -> JobView:
    return JobView(job_id=job_id, stage=stage, waited_s=10.0, slack_s=slack_s)


def one(_: str) -> int:
    return 1


def many(_: str) -> int:
    return 8


def test_nothing_to_do_is_none() -> None:
    assert schedule([], one) is None


def test_first_chunk_goes_before_a_stream_that_has_enough() -> None:
    assert schedule([playing(1, slack_s=0.5), waiting(2)], one) == Batch("render", (2,))


def test_stream_about_to_run_dry_goes_before_a_first_chunk() -> None:
    assert schedule([playing(1, slack_s=0.1), waiting(2)], one) == Batch("render", (1,))


def test_oldest_first_chunk_goes_first() -> None:
    jobs = [waiting(1, waited_s=0.1), waiting(2, waited_s=0.3), waiting(3, waited_s=0.2)]
    assert schedule(jobs, many) == Batch("render", (2, 3, 1))


def test_stream_nearest_to_running_dry_goes_next() -> None:
    jobs = [playing(1, slack_s=3.0), playing(2, slack_s=0.2), playing(3, slack_s=1.0)]
    assert schedule(jobs, one) == Batch("render", (2,))


def test_batch_takes_only_the_stage_of_the_most_urgent() -> None:
    jobs = [playing(1, 0.5, "render"), waiting(2, "decode"), playing(3, 0.9, "decode")]
    assert schedule(jobs, many) == Batch("decode", (2, 3))


def test_batch_is_cut_at_what_the_stage_takes() -> None:
    jobs = [playing(job_id, slack_s=job_id) for job_id in range(10)]
    assert schedule(jobs, lambda stage: {"render": 3}[stage]) == Batch("render", (0, 1, 2))


def test_stage_that_can_take_none_gives_way() -> None:
    jobs = [waiting(1, "admit"), playing(2, 0.1, "decode")]
    room = {"admit": 0, "decode": 4}
    assert schedule(jobs, lambda stage: room[stage]) == Batch("decode", (2,))


def test_nothing_is_done_while_no_stage_has_room() -> None:
    assert schedule([waiting(1, "admit")], lambda _: 0) is None


def crowd(first_id: int) -> list[JobView]:
    return [playing(first_id + place, slack_s=2.0) for place in range(4)]


def none_renders(stage: str) -> int:
    return 0 if stage == "render" else 8


def test_those_who_have_enough_wait_while_a_crowd_waits_for_the_device() -> None:
    at_ease = playing(1, 1.5, "decode")
    assert schedule([at_ease, *crowd(10)], none_renders) is None
    assert schedule([at_ease, *crowd(10)[1:]], none_renders) == Batch("decode", (1,))
    assert schedule([at_ease, *crowd(10)], many) is not None


def test_no_crowd_keeps_back_who_needs_audio_soon() -> None:
    for urgent in (playing(1, 0.9, "decode"), waiting(1, "decode")):
        batch = schedule([urgent, playing(2, 1.5, "decode"), *crowd(10)], none_renders)
        assert batch == Batch("decode", (1, 2))


def test_who_waits_for_a_first_chunk_or_for_its_landing_is_no_crowd() -> None:
    first = [waiting(place, "render") for place in range(10, 20)]
    aloft = [replace(job, is_in_flight=True) for job in crowd(20)]
    job = playing(1, 1.5, "decode")
    assert schedule([job, *first, *aloft], none_renders) == Batch("decode", (1,))


def test_who_waits_takes_part_aside_when_there_is_room() -> None:
    jobs = [
        replace(playing(1, 2.0, "render"), aside="decode"),
        playing(2, 0.5, "decode"),
        replace(playing(3, 1.0, "render"), aside="decode"),
        playing(4, 3.0, "render"),
    ]
    assert schedule(jobs, none_renders) == Batch("decode", (2, 3, 1))
    assert schedule(jobs, lambda stage: 2 * (stage == "decode")) == Batch("decode", (2, 3))


def test_what_is_done_aside_alone_is_not_begun() -> None:
    jobs = [replace(playing(1, 2.0, "render"), aside="decode")]
    assert schedule(jobs, none_renders) is None


def test_who_joins_comes_before_older_first_chunks_and_after_who_runs_dry() -> None:
    old, new = waiting(1, "decode", 2.0), replace(waiting(2, "admit"), is_joining=True)
    assert schedule([old, new], many) == Batch("admit", (2,))
    assert schedule([old, new, playing(3, 0.1, "decode")], many) == Batch("decode", (3, 1))
    assert schedule([replace(playing(4, 2.0, "admit"), is_joining=True), old], many) == Batch(
        "decode", (1,)
    )


def test_a_step_as_large_as_it_can_be_comes_before_first_chunks() -> None:
    first, dry = waiting(1, "decode"), playing(2, 0.1, "decode")
    at_ease = [playing(place, 5.0) for place in range(10, 18)]
    assert schedule([first, *at_ease], many) == Batch("render", tuple(range(10, 18)))
    assert schedule([first, *at_ease[1:]], many) == Batch("decode", (1,))
    assert schedule([first, dry, *at_ease], many) == Batch("decode", (2, 1))


def test_a_small_step_is_never_large_enough_to_come_first() -> None:
    assert schedule([waiting(1, "decode"), playing(2, 5.0)], one) == Batch("decode", (1,))
