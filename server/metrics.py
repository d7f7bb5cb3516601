"""What Prometheus reads: each engine's workers, and all requests counted."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

from engine.types import Residence, Task, WorkerStatus
from server.errors import ApiError
from server.queueing import FairQueue
from server.schemas.requests import RequestEntry
from server.tallies import ended_connections, refusals

METRICS_MEDIA_TYPE = "text/plain; version=0.0.4"

_TTFA_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_RTF = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0)
_RESIDENCES: tuple[Residence, ...] = ("loading", "resident", "offloaded", "stopped")


class Histogram:
    """Observations counted by how large they are.

    Args:
        bounds: Of the buckets, rising; each holds what is not above it.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, metric: str, labels: str) -> Iterable[str]:
        """In Prometheus's text format, where each bucket counts all below it too."""
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{metric}_bucket{{{labels},le="{bound}"}} {total}'
        yield f"{metric}_sum{{{labels}}} {self._sum}"
        yield f"{metric}_count{{{labels}}} {total}"


class RequestTotals:
    """All requests that reached an engine since the server started. Event loop only."""

    def __init__(self) -> None:
        self._in_flight: dict[Task, int] = {"speech": 0, "transcription": 0}
        # The others by their labels, in Prometheus's words.
        self._outcomes: Counter[str] = Counter()
        self._underruns: Counter[str] = Counter()
        self._audio_s: defaultdict[str, float] = defaultdict(float)
        self._left_compute_s: defaultdict[str, float] = defaultdict(float)
        self._ttfa_s: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(_TTFA_S))
        self._rtf: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(_RTF))

    def began(self, task: Task) -> None:
        self._in_flight[task] += 1

    def ended(self, entry: RequestEntry, error: ApiError | None, compute_s: float = 0.0) -> None:
        """Count a request that has begun.

        Args:
            entry: What it cost.
            error: Why it failed, if it did.
            compute_s: That the engine's steps took for what it gave, s.
        """
        self._in_flight[entry.task] -= 1
        labels = _labels(task=entry.task, engine=entry.engine)
        failure = _labels(
            code=entry.error or "", status=f"{error.status // 100}xx" if error else ""
        )
        self._outcomes[f'{labels},outcome="{entry.status}",{failure}'] += 1
        self._audio_s[labels] += entry.audio_s
        if entry.status == "left":
            self._left_compute_s[labels] += compute_s
        if entry.ttfa_s is not None:
            self._ttfa_s[labels].observe(entry.ttfa_s)
        if entry.rtf is not None:
            self._rtf[labels].observe(entry.rtf)
        if entry.underrun_s is not None:
            self._underruns[labels] += entry.underrun_s > 0

    def text(self) -> str:
        """In Prometheus's text format."""
        flights = {_labels(task=task): count for task, count in self._in_flight.items()}
        lines = [
            *_lines("rhapsode_requests_in_flight", "gauge", flights),
            *_lines("rhapsode_requests_total", "counter", self._outcomes),
            *_lines("rhapsode_audio_seconds_total", "counter", self._audio_s),
            *_lines("rhapsode_left_compute_seconds_total", "counter", self._left_compute_s),
            *_lines("rhapsode_underrun_streams_total", "counter", self._underruns),
            *_histogram_lines("rhapsode_ttfa_seconds", self._ttfa_s),
            *_histogram_lines("rhapsode_rtf", self._rtf),
        ]
        return "\n".join(lines) + "\n"


def engine_metrics(engines: Mapping[str, tuple[WorkerStatus, ...]]) -> str:
    """All engines and their workers in Prometheus's text format.

    Args:
        engines: Workers by the engine's name.
    """
    rows = [
        (_labels(engine=name, worker=index, device=worker.device), worker)
        for name, workers in engines.items()
        for index, worker in enumerate(workers)
    ]
    states = {
        f'{labels},state="{each}"': int(worker.residence == each)
        for labels, worker in rows
        for each in _RESIDENCES
    }
    jobs = {
        _labels(engine=name): sum(worker.jobs for worker in workers)
        for name, workers in engines.items()
    }
    lines = [
        *_lines("rhapsode_worker_state", "gauge", states),
        *_lines("rhapsode_engine_jobs", "gauge", jobs),
    ]
    stages = [
        (f"{labels},{_labels(stage=each.stage)}", each)
        for labels, worker in rows
        for each in worker.steps
    ]
    lines += _lines("rhapsode_worker_steps_total", "counter", {at: s.steps for at, s in stages})
    lines += _lines("rhapsode_worker_step_jobs_total", "counter", {at: s.jobs for at, s in stages})
    for metric, kind, figure in _WORKER_FIGURES:
        lines += _lines(metric, kind, {labels: figure(worker) for labels, worker in rows})
    return "\n".join(lines) + "\n"


def queue_metrics(queues: Mapping[str, FairQueue]) -> str:
    """Who has a turn and who waits, in Prometheus's text format.

    Args:
        queues: By the engine's name.
    """
    running = {_labels(engine=name): queue.running for name, queue in queues.items()}
    waiting = {
        _labels(engine=name, tier=tier): queue.waiting_in(is_batch=tier == "batch")
        for name, queue in queues.items()
        for tier in ("interactive", "batch")
    }
    lines = [
        *_lines("rhapsode_queue_running", "gauge", running),
        *_lines("rhapsode_queue_waiting", "gauge", waiting),
    ]
    return "\n".join(lines) + "\n"


def server_metrics() -> str:
    """What the server as a whole refused and ended, in Prometheus's text format."""
    refused = {_labels(reason=reason): count for reason, count in refusals.items()}
    ended = {_labels(reason=reason): count for reason, count in ended_connections.items()}
    lines = [
        *_lines("rhapsode_refusals_total", "counter", refused),
        *_lines("rhapsode_ended_connections_total", "counter", ended),
    ]
    return "\n".join(lines) + "\n"


def _used_bytes(worker: WorkerStatus) -> float:
    if worker.memory is None:
        return 0 if worker.residence == "stopped" else float("nan")
    return worker.memory.used_bytes


_WORKER_FIGURES: tuple[tuple[str, str, Callable[[WorkerStatus], float]], ...] = (
    ("rhapsode_worker_device_bytes", "gauge", _used_bytes),
    ("rhapsode_worker_jobs", "gauge", lambda worker: worker.jobs),
    ("rhapsode_worker_restarts_total", "counter", lambda worker: worker.restarts),
    ("rhapsode_worker_wakes_total", "counter", lambda worker: worker.wakes),
    ("rhapsode_worker_wake_seconds_total", "counter", lambda worker: worker.wake_s),
)


def _lines(metric: str, kind: str, values: Mapping[str, float]) -> list[str]:
    """A metric, given its values by their labels."""
    lines = [f"{metric}{{{labels}}} {value}" for labels, value in values.items()]
    return [f"# TYPE {metric} {kind}", *lines]


def _histogram_lines(metric: str, histograms: Mapping[str, Histogram]) -> list[str]:
    lines = [line for labels, each in histograms.items() for line in each.lines(metric, labels)]
    return [f"# TYPE {metric} histogram", *lines]


def _labels(**values: str | int) -> str:
    return ",".join(f'{name}="{_escaped(str(value))}"' for name, value in values.items())


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"")
