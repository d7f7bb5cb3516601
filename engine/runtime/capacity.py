"""How many streams a worker can keep playing, learned from the steps that it does. Pure.

A stream that plays takes so many steps of each stage for a second of audio, and a step of so many
jobs takes so long. For n streams, in batches as large as a stage takes, that makes a load: seconds
of steps for each second that all of them play. More than 1 cannot be kept up. Steps that the device
does beside the others make a load of their own, and the larger counts.

What has not been measured is guessed to cost nothing more, so that a load is never over-estimated:
the first streams are all let in, a batch larger than any so far counts as along the line through
those that were measured, and what has long not been seen is forgotten.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import ceil

from engine.errors import Overloaded
from engine.runtime.policy import Batch

_SIGHTINGS = 3
"""Steps of a size before it counts: the first may compile, capture or allocate."""
_MEMORY_S = 60.0
"""After which a size that has not been seen again is forgotten: another program may have slowed
the device down while it was measured."""
_NEWEST_WEIGHT = 0.1
_CLIP = 0.2
"""A step changes what its size is held to take by this share at most: one hiccup is none."""
_JOBS_REMEMBERED = 0.95
"""Share of what is known of former jobs that stays when one ends."""


class StepTime:
    """What a step of one stage takes, by the number of its jobs."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, float, float]] = {}  # jobs: sightings, seconds, seen at
        self._slope_s: float | None = None  # more, for one job more
        self.limit = 1

    def saw(self, jobs: int, seconds: float, now: float) -> None:
        sightings, mean, _ = self._known.get(jobs, (0, seconds, now))
        if sightings < _SIGHTINGS:
            mean = min(mean, seconds)
        else:
            mean += min(max(_NEWEST_WEIGHT * (seconds - mean), -_CLIP * mean), _CLIP * mean)
        self._known[jobs] = (sightings + 1, mean, now)

    def at(self, jobs: int, now: float) -> float | None:
        """Seconds: between sizes that were measured on the line that joins them, beyond them on
        the line through the least and the greatest. None: nothing is known."""
        points = self._points(now)
        if not points:
            return None
        (least, least_s), (greatest, greatest_s) = points[0], points[-1]
        if greatest > least:
            self._slope_s = max(0.0, (greatest_s - least_s) / (greatest - least))
        if jobs >= greatest:
            return greatest_s + (self._slope_s or 0.0) * (jobs - greatest)
        if jobs <= least:
            # No stage takes less than its share of a larger step.
            slope_s = least_s / least if self._slope_s is None else self._slope_s
            return max(least_s * jobs / least, least_s - slope_s * (least - jobs))
        above = next(index for index, (size, _) in enumerate(points) if size >= jobs)
        (low, low_s), (high, high_s) = points[above - 1], points[above]
        return low_s + (high_s - low_s) * (jobs - low) / (high - low)

    def _points(self, now: float) -> list[tuple[int, float]]:
        """(jobs, seconds) of all that is known and not too old, by size."""
        for jobs in [jobs for jobs, (_, _, at) in self._known.items() if now - at > _MEMORY_S]:
            del self._known[jobs]
        return sorted((jobs, s) for jobs, (n, s, _) in self._known.items() if n >= _SIGHTINGS)


class Capacity:
    """Decides whether a worker takes one more stream.

    Args:
        max_load: Above which it takes none.
    """

    def __init__(self, max_load: float) -> None:
        self._max_load = max_load
        self._times: defaultdict[str, StepTime] = defaultdict(StepTime)
        self._steps: dict[str, float] = {}
        self._overlapping: set[str] = set()
        self._audio_s = 0.0
        self._life_s = 0.0

    def stepped(
        self, batch: Batch, limit: int, seconds: float, now: float, *, overlaps: bool = False
    ) -> None:
        """A step was done.

        Args:
            batch: What was done.
            limit: Jobs that it could have had.
            seconds: That it took.
            now: When it ended.
            overlaps: It was done beside the steps that do not.
        """
        if overlaps:
            self._overlapping.add(batch.stage)
        time = self._times[batch.stage]
        time.limit = max(time.limit, limit)
        time.saw(len(batch.job_ids), seconds, now)

    def ended(self, steps: Mapping[str, int], audio_s: float, life_s: float) -> None:
        """A job is over.

        Args:
            steps: That it took part in, by stage.
            audio_s: That it gave; without any it tells nothing.
            life_s: From its arrival to its end.
        """
        if not audio_s:
            return
        for stage in self._steps.keys() | steps.keys():
            known = self._steps.get(stage, 0.0) * _JOBS_REMEMBERED
            self._steps[stage] = known + steps.get(stage, 0)
        self._audio_s = self._audio_s * _JOBS_REMEMBERED + audio_s
        self._life_s = life_s if not self._life_s else 0.9 * self._life_s + 0.1 * life_s

    def load(self, streams: int, now: float) -> float:
        """Seconds of steps for each second that so many streams play; 0 while nothing is known."""
        if not self._audio_s:
            return 0.0
        alone_s = beside_s = 0.0
        for stage, steps in self._steps.items():
            time = self._times[stage]
            jobs = min(streams, time.limit)
            seconds = steps / self._audio_s * streams / jobs * (time.at(jobs, now) or 0.0)
            if stage in self._overlapping:
                beside_s += seconds
            else:
                alone_s += seconds
        return max(alone_s, beside_s)

    def admit(self, streams: int, now: float) -> None:
        """Let one more in beside so many.

        Raises:
            Overloaded: those that play would run dry.
        """
        load = self.load(streams + 1, now)
        # One alone is always taken: a slow engine speaks all the same.
        if streams and load > self._max_load:
            retry_after_s = max(1, ceil(self._life_s / streams))
            message = (
                f"{streams} streams take all the time there is: one more would make them stall"
            )
            raise Overloaded(message, float(retry_after_s))
