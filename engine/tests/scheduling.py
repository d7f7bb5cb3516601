"""What the worker's policy makes of listeners of GLM-TTS: a simulation, not a measurement.

`python -m engine.tests.scheduling [--listeners 32 64]` prints a JSON line for each number of
listeners. Each asks for a clip of 10 s again as soon as it has one. The policy is the real one.
What steps take is a line through what was measured of each alone on an H200 (`bench/notes.md`), and
how much longer beside each other is what the trace of both lanes showed.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import mean

from engine.runtime.policy import Batch, JobView, schedule

_CLIP = 250
"""Tokens; 25 a second."""
_PROMPT = 110
_BLOCKS, _LOOK, _LEFT = (25, 50, 200), (12, 25), 50
_SLOTS, _PREFILLS, _RENDERS, _BURST = 64, 4, 16, 4
_FRAMES = {"first": 1100, "render": 4096}
_STAGGERS_S = (5.0, 0.2, 2.5, 1.0)
"""Within which all begin: how they fall into step decides much."""
_WARM_UP_S, _END_S = 3.0, 9.0
_NAP_S = 0.0005
_START_S = 0.0014
_BETWEEN_CLIPS_S = 0.002


@dataclass
class Job:
    """A clip on its way."""

    id: int
    born_s: float
    stage: str = "admit"
    tokens: int = 0
    done: int = 0
    block: int = 0
    is_aloft: bool = False
    first_s: float | None = None
    sent_s: float = 0.0

    @property
    def wanted(self) -> int:
        return self.done + _BLOCKS[min(self.block, 2)] + _LOOK[min(self.block, 1)]

    @property
    def is_last(self) -> bool:
        return self.tokens >= _CLIP and self.tokens < self.wanted

    @property
    def frames(self) -> int:
        seen = min(self.tokens, self.wanted) - max(0, self.done - _LEFT)
        return 2 * (_PROMPT + seen)

    def go_on(self) -> None:
        """Set the stage, as the engine does."""
        has_block = self.tokens >= min(self.wanted, _CLIP)
        if self.is_aloft and (has_block or self.first_s is None):
            self.stage = "land"
        elif not has_block:
            self.stage = "decode"
        else:
            self.stage = "first" if self.block == 0 else "render"

    def view(self, now: float) -> JobView:
        rides = self.stage in ("first", "render", "land") and 0 < self.tokens < _CLIP
        return JobView(
            job_id=self.id,
            stage=self.stage,
            aside="decode" if rides else None,
            is_joining=self.stage == "admit",
            is_in_flight=self.is_aloft,
            waited_s=now - self.born_s,
            slack_s=None if self.first_s is None else self.sent_s - (now - self.first_s),
        )


@dataclass
class Worker:
    """A device with three lanes, and its clock."""

    starts: list[float]
    now: float = 0.0
    jobs: dict[int, Job] = field(default_factory=dict)
    flights: dict[str, tuple[float, list[tuple[Job, int, bool]]]] = field(default_factory=dict)
    ttfas_s: list[float] = field(default_factory=list)
    audio_s: float = 0.0
    gaps: int = 0
    begun: int = 0

    def run(self) -> None:
        while self.now < _END_S:
            while self.starts and self.starts[0] <= self.now:
                heapq.heappop(self.starts)
                self.begun += 1
                self.jobs[self.begun] = Job(self.begun, self.now)
                self.now += _START_S
            self._land()
            batch = schedule([job.view(self.now) for job in self.jobs.values()], self._room)
            if batch is None:
                self.now += _NAP_S
            else:
                self._step(batch)

    def _room(self, stage: str) -> int:
        if stage == "admit":
            return min(_PREFILLS, _SLOTS - sum(job.tokens > 0 for job in self.jobs.values()))
        if stage == "decode":
            return _SLOTS
        return _RENDERS if self._lane(stage) else 0

    def _lane(self, stage: str) -> str | None:
        lanes = {"first": ("first", "render"), "render": ("render",)}.get(stage, ())
        return next((lane for lane in lanes if lane not in self.flights), None)

    def _step(self, batch: Batch) -> None:
        jobs = [self.jobs[job_id] for job_id in batch.job_ids]
        if batch.stage == "admit":
            self.now += (1.5 + 1.2 * len(jobs)) * (1.3 if self.flights else 1) / 1000
            for job in jobs:
                job.tokens, job.stage = 1, "decode"
        elif batch.stage == "decode":
            self._decode(jobs)
        else:
            self._launch(batch.stage, jobs)

    def _decode(self, jobs: list[Job]) -> None:
        lacking = [job.wanted - job.tokens for job in jobs if job.tokens < _CLIP]
        count = min(_BURST, max(1, *lacking))
        device_ms = count * (1.15 + 0.02 * len(jobs)) * (1.8 if self.flights else 1)
        self.now += (device_ms + 0.4 + 0.02 * len(jobs)) / 1000
        for job in jobs:
            job.tokens = min(_CLIP, job.tokens + count)
            job.go_on()

    def _launch(self, stage: str, waiting: list[Job]) -> None:
        lane = self._lane(stage)
        assert lane is not None
        rows, audio_s = 0, 0.0
        blocks: list[tuple[Job, int, bool]] = []
        for job in waiting:
            if blocks and rows + job.frames > _FRAMES[lane]:
                continue
            rows += job.frames
            is_last = job.is_last
            end = _CLIP if is_last else job.done + _BLOCKS[min(job.block, 2)]
            blocks.append((job, end - job.done, is_last))
            audio_s += (end - job.done) / 25
            job.done, job.block, job.is_aloft = end, job.block + 1, True
            job.go_on()
            if is_last:
                job.stage = "land"
        self.now += (1 + 0.5 * len(blocks)) / 1000
        slower = 1.25 * (1.5 if self.flights else 1)
        render_s = (6.5 + 0.0102 * rows + 0.75 * audio_s) * slower / 1000
        self.flights[lane] = self.now + render_s, blocks

    def _land(self) -> None:
        for lane in [lane for lane, (at, _) in self.flights.items() if at <= self.now]:
            for job, tokens, is_last in self.flights.pop(lane)[1]:
                job.is_aloft = False
                self._hear(job, tokens / 25)
                if is_last:
                    del self.jobs[job.id]
                    heapq.heappush(self.starts, self.now + _BETWEEN_CLIPS_S)
                elif job.stage == "land":
                    job.go_on()

    def _hear(self, job: Job, audio_s: float) -> None:
        counts = self.now > _WARM_UP_S
        if job.first_s is None:
            job.first_s = self.now
            self.ttfas_s += [self.now - job.born_s] * counts
        else:
            self.gaps += counts and self.now - job.first_s > job.sent_s
        job.sent_s += audio_s
        self.audio_s += audio_s * counts


def simulate(listeners: int) -> dict[str, object]:
    """Figures, as means over ways to begin."""
    workers = []
    for stagger_s in _STAGGERS_S:
        workers.append(Worker([index * stagger_s / listeners for index in range(listeners)]))
        workers[-1].run()

    def ttfa_ms(share: float) -> Iterator[float]:
        for worker in workers:
            ordered = sorted(worker.ttfas_s)
            yield 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {
        "listeners": listeners,
        "audio_s_per_s": round(mean(each.audio_s for each in workers) / (_END_S - _WARM_UP_S), 1),
        "ttfa_ms_p50": round(mean(ttfa_ms(0.5))),
        "ttfa_ms_p95": round(mean(ttfa_ms(0.95))),
        "gaps": sum(each.gaps for each in workers),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Simulate listeners of GLM-TTS.")
    parser.add_argument("--listeners", type=int, nargs="+", default=[8, 16, 32, 48, 64])
    for listeners in parser.parse_args(arguments).listeners:
        sys.stdout.write(json.dumps(simulate(listeners)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
