"""schedule -> step -> deliver: the worker's loop around a speech engine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import cast

from msgspec import Struct

from engine.errors import EngineError, InvalidRequest, PromptUnknown, to_wire
from engine.features import FeatureStore
from engine.protocol import Cloner, Overlapping, Synthesizer
from engine.runtime.capacity import Capacity
from engine.runtime.heartbeat import Pulse
from engine.runtime.job import RunningJob
from engine.runtime.policy import Batch, schedule
from engine.runtime.tally import Tally
from engine.runtime.wire import (
    Audio,
    Cancel,
    Command,
    Event,
    Failed,
    Finished,
    Grant,
    Prepare,
    Start,
)
from engine.types import Job, PromptFeatures, PromptRef, StageSteps, StepOutput

logger = logging.getLogger(__name__)

_NAP_S = 0.0005
"""How often to see whether the device has finished, while there is nothing else to do."""


class _Flight(Struct, frozen=True):
    """A step that left work to the device."""

    number: int
    """In the loop's pulse."""
    batch: Batch
    limit: int
    began_at: float
    jobs: tuple[Job, ...]


class SpeechLoop:
    """The jobs of one worker. One thread calls everything but `notice`.

    Args:
        engine: Loaded.
        sample_rate: Hz, of the engine's PCM.
        features: Of prompts; None for an engine that does not clone.
        send: Puts an event on the socket; raises ConnectionError when the server is gone.
        capacity: Refuses what could not be spoken in time; None: nothing is refused.
        pulse: Told of what the device is at.
        tally: Told of each step that was done.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        engine: Synthesizer,
        sample_rate: int,
        send: Callable[[Event], None],
        features: FeatureStore | None = None,
        capacity: Capacity | None = None,
        pulse: Pulse | None = None,
        tally: Tally | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._sample_rate = sample_rate
        self._send = send
        self._features = features
        self._capacity = capacity
        self._pulse = pulse or Pulse()
        self._tally = tally or Tally()
        self._clock = clock
        self._jobs: dict[int, RunningJob] = {}
        self._stepping: list[RunningJob] = []
        self._mark = 0.0
        self._flights: list[_Flight] = []
        self._overlapping = engine if isinstance(engine, Overlapping) else None

    def notice(self, command: Command) -> bool:
        """Flag a cancelled job, so that the step which runs now stops early. Reader thread.

        Returns:
            False: the command still has to be applied.
        """
        if isinstance(command, Cancel) and (running := self._jobs.get(command.job_id)) is not None:
            running.job.is_cancelled = True
        return False

    def apply(self, command: Command) -> None:
        """Take a command from the server."""
        match command:
            case Start():
                self._start(command)
            case Prepare():
                self._prepare(command)
            case Grant(job_id, samples):
                if (running := self._jobs.get(job_id)) is not None:
                    running.granted += samples
            case Cancel(job_id):
                if (running := self._jobs.get(job_id)) is not None:
                    self._drop(running)
            case _:
                raise ConnectionError("a speech engine cannot listen")

    @property
    def nap_s(self) -> float | None:
        """After a turn without a step: seconds until the next is due. None: a command is due."""
        return _NAP_S if self._flights else None

    def turn(self) -> bool:
        """Do one step; False if there was nothing to do."""
        self._land()
        self._mark_flight()
        batch = self._schedule()
        if batch is None:
            return False
        self._step(batch)
        self._mark_flight()
        return True

    def _start(self, command: Start) -> None:
        try:
            if self._capacity is not None:
                self._capacity.admit(len(self._jobs), self._clock())
            features = self._features_of(command.request.prompt)
            job = self._engine.start(command.job_id, command.request, features)
        except Exception as exc:  # noqa: BLE001 - the job fails, whatever it was; the worker lives
            self._fail(command.job_id, command.request_id, exc)
            return
        self._jobs[job.id] = RunningJob(job, command.request_id, command.grant, self._clock())

    def _prepare(self, command: Prepare) -> None:
        try:
            if self._features is None:
                raise InvalidRequest("this engine does not clone voices", "voice")
            prompt = command.prompt
            known = self._features.get(prompt.digest)
            features = known or cast("Cloner", self._engine).prepare(prompt)
            # What is known may be in memory only so far.
            self._features.put(prompt.digest, features, is_temporary=prompt.is_temporary)
        except Exception as exc:  # noqa: BLE001 - the job fails, whatever it was; the worker lives
            self._fail(command.job_id, command.request_id, exc)
            return
        self._send(Finished(command.job_id))

    def _features_of(self, prompt: PromptRef | None) -> PromptFeatures | None:
        if prompt is None or self._features is None:
            return None
        if (features := self._features.get(prompt.digest)) is None:
            raise PromptUnknown("this prompt has not been prepared")
        return features

    def _schedule(self) -> Batch | None:
        now = self._clock()
        able = (
            running.view(running.job.stage, now)
            for running in self._jobs.values()
            if running.job.stage is not None and running.granted > 0
        )
        return schedule(able, self._engine.max_batch)

    def _step(self, batch: Batch) -> None:
        self._stepping = [self._jobs[job_id] for job_id in batch.job_ids]
        aloft = {running.job.id for running in self._stepping if running.job.is_in_flight}
        began = self._mark = self._clock()
        limit = self._engine.max_batch(batch.stage)
        try:
            self._engine.step(
                batch.stage, [running.job for running in self._stepping], self._deliver
            )
        except ConnectionError:
            raise
        except Exception as exc:  # noqa: BLE001 - the batch fails, whatever it was; the worker lives
            for running in self._stepping:
                self._fail(running.job.id, running.request_id, exc)
                self._drop(running)
            return
        jobs = [running.job for running in self._stepping]
        # What was aloft before has its flight already.
        if flying := tuple(job for job in jobs if job.is_in_flight and job.id not in aloft):
            launched = Batch(batch.stage, tuple(job.id for job in flying))
            self._flights.append(_Flight(self._pulse.number, launched, limit, began, flying))
        else:
            self._book_compute()
            if self._capacity is not None:
                self._capacity.stepped(batch, limit, self._mark - began, self._mark)
        stepped = [each for each in self._stepping if not flying or each.job in flying]
        for running in stepped:
            running.stepped(batch.stage)
        self._tally.add(StageSteps(batch.stage, steps=1, jobs=len(stepped)))
        self._put_down(self._stepping)

    def _land(self) -> None:
        """Take in what the device has finished since the last step."""
        if self._overlapping is None:
            return
        self._stepping = []
        try:
            self._overlapping.land(self._deliver)
        except ConnectionError:
            raise
        except Exception as exc:  # noqa: BLE001 - these jobs fail, whatever it was; the worker lives
            for job in [job for flight in self._flights for job in flight.jobs]:
                if (running := self._jobs.get(job.id)) is not None:
                    self._fail(job.id, running.request_id, exc)
                    self._drop(running)
            self._flights.clear()
            return
        now = self._clock()
        for flight in [each for each in self._flights if not _is_flying(each)]:
            self._flights.remove(flight)
            if self._capacity is not None:
                seconds = now - flight.began_at
                self._capacity.stepped(flight.batch, flight.limit, seconds, now, overlaps=True)
        self._put_down(list(self._jobs.values()))

    def _mark_flight(self) -> None:
        self._pulse.flies(self._flights[0].number if self._flights else None)

    def _put_down(self, those: Iterable[RunningJob]) -> None:
        """Tell of jobs that are done, and drop them and those that nobody wants any more."""
        for running in those:
            if running.job.stage is None and not running.job.is_cancelled:
                self._log_remark(running)
                self._send(Finished(running.job.id))
            if running.job.stage is None or running.job.is_cancelled:
                self._drop(running)

    def _deliver(self, output: StepOutput) -> None:
        running = self._jobs.get(output.job_id)
        if running is None or running.job.is_cancelled:
            return
        self._book_compute()
        for flight in self._flights:
            if running.job in flight.jobs:
                running.worked(self._mark - flight.began_at)
        spent = running.sent(len(output.samples), self._sample_rate, self._clock())
        data = output.samples.tobytes()
        self._send(Audio(output.job_id, data, output.words, spent, output.progress))

    def _book_compute(self) -> None:
        """A batch's time counts in full for each of its jobs: that is what each waited for."""
        now = self._clock()
        for running in self._stepping:
            running.worked(now - self._mark)
        self._mark = now

    def _log_remark(self, running: RunningJob) -> None:
        if (remark := running.job.remark) is not None:
            logger.info("event=remark request_id=%s remark=%s", running.request_id, remark)

    def _fail(self, job_id: int, request_id: str, error: Exception) -> None:
        if not isinstance(error, EngineError):
            logger.error("event=step_failed request_id=%s", request_id, exc_info=error)
        self._send(Failed(job_id, to_wire(error)))

    def _drop(self, running: RunningJob) -> None:
        if self._capacity is not None:
            self._capacity.ended(running.steps, running.sent_s, running.age_s(self._clock()))
        del self._jobs[running.job.id]
        self._engine.finish(running.job)


def _is_flying(flight: _Flight) -> bool:
    return any(job.is_in_flight for job in flight.jobs)
