"""Steps and the jobs in them, counted by stage: their ratio is the mean batch size."""

from __future__ import annotations

from collections.abc import Iterable

from engine.types import StageSteps


class Tally:
    """Counts what a worker's engine does. Worker's loop only."""

    def __init__(self) -> None:
        self._stages: dict[str, StageSteps] = {}

    def add(self, more: StageSteps) -> None:
        before = self._stages.get(more.stage, StageSteps(more.stage, 0, 0))
        self._stages[more.stage] = StageSteps(
            more.stage, before.steps + more.steps, before.jobs + more.jobs
        )

    @property
    def stages(self) -> tuple[StageSteps, ...]:
        """One for each stage that a step has been done of."""
        return tuple(self._stages.values())


def together(*those: Iterable[StageSteps]) -> tuple[StageSteps, ...]:
    """What several workers did, one after the other."""
    tally = Tally()
    for each in those:
        for stage in each:
            tally.add(stage)
    return tally.stages
