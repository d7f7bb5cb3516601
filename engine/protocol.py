"""The one contract. A plug-in implements Synthesizer or Transcriber; the server sees SpeechEngine.

Between the two stands the runtime: it runs the plug-in in a process of its own and schedules it.
A plug-in imports this file, `types`, `errors`, `config`, `text` and nothing else of ours.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from engine.types import (
    Device,
    DeviceMemory,
    EngineInfo,
    EngineStatus,
    Job,
    PcmChunk,
    PromptFeatures,
    Samples,
    Segment,
    SpokenWord,
    StepOutput,
    SynthesisRequest,
    TranscribeOptions,
    TranscriptInfo,
    VoicePrompt,
)

Emit = Callable[[StepOutput], None]
"""Sends audio on its way the moment it exists; cheap, and may be called inside a step."""


PromptSource = Callable[[], Awaitable[VoicePrompt]]
"""Reads a prompt's sound from where it is kept."""


class Engine(Protocol):
    """Every plug-in. Lives in a worker process; all its methods are called by one thread."""

    def load(self, device: Device) -> EngineInfo:
        """Make the engine ready to work, and say what it can do here.

        Raises:
            LoadFailed: with a message that says what to do about it.
        """
        ...


@runtime_checkable
class Residency(Protocol):
    """An engine that can leave its device and come back; one that cannot is always resident.

    All three are called between steps, with no job in hand, by the thread that runs the steps. What
    fails in the first two ends the worker.
    """

    def offload(self) -> None:
        """Take the weights to the host's memory, and give the device's memory back for real."""
        ...

    def restore(self) -> None:
        """Undo `offload`: the engine then works as if it had never left."""
        ...

    def memory(self) -> DeviceMemory | None:
        """What is on the device now; None where that is the host, which the runtime measures."""
        ...


class Synthesizer(Engine, Protocol):
    """Text to speech, one batched step at a time.

    A job passes stages that the plug-in names ("prefill", "decode", "render"); jobs that wait for
    the same stage share its steps.
    """

    def start(
        self, job_id: int, request: SynthesisRequest, features: PromptFeatures | None = None
    ) -> Job:
        """Validate a request and set up its state. No audio yet, no more than milliseconds.

        Args:
            job_id: Unique in the worker.
            request: What to speak.
            features: Of `request.prompt`, if it has one.
        Raises:
            InvalidRequest: the request cannot be done as asked.
        """
        ...

    def step(self, stage: str, jobs: Sequence[Job], emit: Emit) -> None:
        """Advance the jobs, which wait for `stage` or take part aside (`Job.aside`), by one step.

        Sets on each job the stage that it waits for next; one that has to wait keeps its own.
        Audio goes to `emit` as soon as it exists, so that a step which takes long does not hold
        back what it has made already. An exception fails every job of the batch.
        """
        ...

    def max_batch(self, stage: str) -> int:
        """How many jobs one step of this stage takes at most; 0 while it can take none."""
        ...

    def finish(self, job: Job) -> None:
        """Free what the job holds: it is done, failed or cancelled. Called once for each job."""
        ...


@runtime_checkable
class Overlapping(Protocol):
    """A synthesizer whose steps may leave work behind that the device does beside the next ones.

    A job that can do nothing before that has landed waits for a stage that takes no job.
    """

    def land(self, emit: Emit) -> None:
        """Hand on what the device has finished, without waiting; sets the jobs' stages.

        An exception fails every job that is in flight.
        """
        ...


class Cloner(Synthesizer, Protocol):
    """A synthesizer that speaks with the voice of a prompt."""

    def prepare(self, prompt: VoicePrompt) -> PromptFeatures:
        """Compute what `start` needs of a prompt. Depends on the sound and the weights only.

        Raises:
            InvalidRequest: no voice can be had from it.
        """
        ...


class Transcriber(Engine, Protocol):
    """Speech to text."""

    def transcribe(
        self, audio: Iterator[Samples], options: TranscribeOptions
    ) -> tuple[TranscriptInfo, Iterator[Segment]]:
        """Listen to a recording that may be hours long, in bounded memory.

        Other recordings' iterators may be advanced between two segments of this one, by the same
        thread: an iterator keeps its state to itself. Closing it (it is a generator) frees all.

        Args:
            audio: Blocks of float32 mono [T] at EngineInfo.sample_rate, of any length, about one
                second; pulled as they are needed. A pull may wait, and may raise: let it through.
            options: What is wanted.
        Returns:
            What is known at the start, and the segments as they are found. A recording without
            speech gives none.
        Raises:
            InvalidRequest: an option cannot be honoured (`param` names the wire's field).
        """
        ...


class Aligner(Protocol):
    """A transcriber that can also find a known text in a recording."""

    def align(self, audio: Samples, text: str) -> tuple[SpokenWord, ...]:
        """When each word of the text is spoken.

        Args:
            audio: Float32 mono [T] at EngineInfo.sample_rate, a minute at most.
            text: What is said in it.
        Returns:
            The text's words in order; one that the engine does not know is left out.
        Raises:
            InvalidRequest: the text does not fit the recording.
        """
        ...


class EngineFace(Protocol):
    """What the server sees of an engine. Event loop only."""

    @property
    def name(self) -> str: ...

    @property
    def info(self) -> EngineInfo | None:
        """What it can do; None until it has loaded for the first time."""
        ...

    @property
    def status(self) -> EngineStatus: ...

    async def ready(self) -> EngineInfo:
        """Wait until the engine can take a job.

        Raises:
            WorkerUnavailable: it cannot, and will not soon.
        """
        ...


class SpeechEngine(EngineFace, Protocol):
    """The async face of a Synthesizer."""

    def synthesize(
        self, request: SynthesisRequest, request_id: str, prompt: PromptSource | None = None
    ) -> AsyncGenerator[PcmChunk, None]:
        """Speak, chunk by chunk. Closing the generator cancels the job.

        Args:
            request: What to speak.
            request_id: For the log.
            prompt: Gives the sound of `request.prompt`; called if its features are not there yet.
        Raises:
            EngineError: before or between chunks. A stream that ends without one is whole.
        """
        ...

    async def prepare(self, prompt: VoicePrompt, request_id: str) -> None:
        """Have the features of a prompt computed and kept, on an engine that clones voices.

        Raises:
            EngineError: they could not be.
        """
        ...


class TranscriptionEngine(EngineFace, Protocol):
    """The async face of a Transcriber."""

    def transcribe(
        self, audio: AsyncGenerator[Samples, None], options: TranscribeOptions, request_id: str
    ) -> AsyncGenerator[TranscriptInfo | Segment, None]:
        """Transcribe, segment by segment; the info comes first. Closing it cancels the job.

        Args:
            audio: Blocks of float32 mono [T] at EngineInfo.sample_rate; closed in any case. What
                it raises is raised here.
            options: What is wanted.
            request_id: For the log.
        Raises:
            EngineError: before or between parts. A transcript that ends without one is whole.
        """
        ...
