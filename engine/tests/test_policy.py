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
