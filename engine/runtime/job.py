"""A plug-in's job with what the scheduler needs to know of it. Worker's loop only."""

from __future__ import annotations

from collections import Counter

from engine.runtime.policy import JobView
from engine.types import Job


class RunningJob:
    """One job in a worker.

    Attributes:
        job: The plug-in's own state.
        request_id: For the log.
        steps: That it took part in, by stage.
        sent_s: Audio sent, s.
        granted: Samples that the server still has room for; the last step may overdraw it.
    """

    def __init__(self, job: Job, request_id: str, granted: int, now: float) -> None:
        self.job = job
        self.request_id = request_id
        self.granted = granted
        self._arrived_at = now
        self._first_audio_at: float | None = None
        self.sent_s = 0.0
        self.steps: Counter[str] = Counter()
        self._compute_s = 0.0

    def worked(self, seconds: float) -> None:
        """Book compute time on this job, in seconds."""
        self._compute_s += seconds

    def sent(self, samples: int, sample_rate: int, now: float) -> float:
        """Book audio sent; returns the compute time since the last audio, in seconds."""
        if self._first_audio_at is None:
            self._first_audio_at = now
        self.granted -= samples
        self.sent_s += samples / sample_rate
        spent, self._compute_s = self._compute_s, 0.0
        return spent

    def stepped(self, stage: str) -> None:
        """Book a step."""
        self.steps[stage] += 1

    def age_s(self, now: float) -> float:
        """Since it arrived."""
        return now - self._arrived_at

    def view(self, stage: str, now: float) -> JobView:
        """What the policy may know."""
        slack_s = None
        if self._first_audio_at is not None:
            slack_s = self.sent_s - (now - self._first_audio_at)
        return JobView(
            job_id=self.job.id,
            stage=stage,
            aside=self.job.aside,
            is_joining=self.job.is_joining,
            is_in_flight=self.job.is_in_flight,
            waited_s=now - self._arrived_at,
            slack_s=slack_s,
        )
