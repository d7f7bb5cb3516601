"""What to do next. Pure: no engine, no clock, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from msgspec import Struct

_NEARLY_DRY_S = 0.3
"""A stream with less in hand comes before those that have not begun: a gap is heard, a wait of as
long is not. About what a step or two of a full device take."""


class JobView(Struct, frozen=True, kw_only=True):
    """A job that could go on now, as the policy sees it."""

    job_id: int
    stage: str
    """The stage that it waits for."""
    waited_s: float
    """Since it arrived."""
    slack_s: float | None
    """Audio sent minus time since the first of it: how long a player lasts. None: none sent yet."""


class Batch(Struct, frozen=True):
    """One step: these jobs, all waiting for this stage."""

    stage: str
    job_ids: tuple[int, ...]


def schedule(jobs: Iterable[JobView], max_batch: Callable[[str], int]) -> Batch | None:
    """Choose the next step.

    The most urgent job names the stage; others that wait for the same stage come along, most
    urgent first, as many as one step takes.

    Args:
        jobs: The jobs that can go on: not cancelled, with room for their audio.
        max_batch: Stage -> jobs in one step at most; 0 while a stage can take none.
    Returns:
        None when there is nothing to do.
    """
    queue = sorted(jobs, key=_urgency)
    room = {job.stage: max_batch(job.stage) for job in queue}
    stage = next((job.stage for job in queue if room[job.stage]), None)
    if stage is None:
        return None
    same_stage = (job.job_id for job in queue if job.stage == stage)
    return Batch(stage, tuple(islice(same_stage, room[stage])))


def _urgency(job: JobView) -> tuple[int, float]:
    """Streams about to run dry; first chunks, oldest before younger; then who runs dry soonest."""
    if job.slack_s is None:
        return 1, -job.waited_s
    return (0 if job.slack_s < _NEARLY_DRY_S else 2), job.slack_s
