"""What to do next. Pure: no engine, no clock, no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import chain, islice

from msgspec import Struct

_AT_EASE_S = 1.0
"""A stream with as much in hand lets a busy device be."""
_CROWD = 4
"""Streams that make a device busy while they wait for it; the least that a full step has."""
_NEARLY_DRY_S = 0.3
"""A stream with less in hand comes before those that have not begun: a gap is heard, a wait of as
long is not. About what a step or two of a full device take."""


class JobView(Struct, frozen=True, kw_only=True):
    """A job that could go on now, as the policy sees it."""

    job_id: int
    stage: str
    """The stage that it waits for."""
    aside: str | None = None
    """Another that it takes part in meanwhile."""
    is_joining: bool = False
    """A short step, and it takes part in those of others."""
    is_in_flight: bool = False
    """The device works on it."""
    waited_s: float
    """Since it arrived."""
    slack_s: float | None
    """Audio sent minus time since the first of it: how long a player lasts. None: none sent yet."""


class Batch(Struct, frozen=True):
    """One step of a stage, and the jobs that take part in it."""

    stage: str
    job_ids: tuple[int, ...]


def schedule(jobs: Iterable[JobView], max_batch: Callable[[str], int]) -> Batch | None:
    """Choose the next step.

    The most urgent job names the stage; others that wait for the same stage come along, most
    urgent first, as many as one step takes, and then those that take part in it aside. A crowd
    that waits for the device goes before steps for those who have enough: these would only slow
    it down, and there will be more of them to a step.

    Args:
        jobs: The jobs that can go on: not cancelled, with room for their audio.
        max_batch: Stage -> jobs in one step at most; 0 while a stage can take none.
    Returns:
        None when there is nothing to do.
    """
    jobs = list(jobs)
    waiting = Counter(job.stage for job in jobs)
    room = {stage: max_batch(stage) for stage in waiting}
    full = {stage for stage, most in room.items() if _CROWD <= most <= waiting[stage]}
    queue = sorted(jobs, key=lambda job: _urgency(job, is_full=job.stage in full))
    first = next((job for job in queue if room[job.stage]), None)
    if first is None or (_is_at_ease(first) and _is_crowded(queue, room)):
        return None
    stage = first.stage
    own = (job.job_id for job in queue if job.stage == stage)
    aside = (job.job_id for job in queue if job.stage != stage and job.aside == stage)
    return Batch(stage, tuple(islice(chain(own, aside), room[stage])))


def _is_at_ease(job: JobView) -> bool:
    return job.slack_s is not None and job.slack_s >= _AT_EASE_S


def _is_crowded(queue: Iterable[JobView], room: Mapping[str, int]) -> bool:
    """Many streams that play wait for what the device has no room for."""
    waiting = (job for job in queue if job.slack_s is not None and not job.is_in_flight)
    return sum(room[job.stage] == 0 for job in waiting) >= _CROWD


def _urgency(job: JobView, *, is_full: bool) -> tuple[int, float]:
    """Streams about to run dry; first chunks, oldest before younger; then who runs dry soonest.

    First chunks that join come before the others, whose steps do for them too; so does a step as
    large as it can be: to wait would make it no better, and leave a device idle.
    """
    if job.slack_s is None:
        return (1 if job.is_joining or is_full else 2), -job.waited_s
    if job.slack_s < _NEARLY_DRY_S:
        return 0, job.slack_s
    return (1 if is_full else 3), job.slack_s
