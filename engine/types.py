"""The nouns that the engine room shares; each is complete when it is built."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Samples: TypeAlias = npt.NDArray[np.float32]
"""float32 mono PCM in [-1, 1], shape [T]."""

Device: TypeAlias = str
"""Where an engine computes: "cpu", "cuda:0", ..."""

Task: TypeAlias = Literal["speech", "transcription"]


EngineState: TypeAlias = Literal["starting", "ready", "restarting", "absent"]

Residence: TypeAlias = Literal["loading", "resident", "offloaded", "stopped"]
"""Where a worker's weights are: on their way, on its device, in the host's memory, or nowhere: the
process has ended. The last two wake when a request comes."""


class VoiceInfo(Struct, frozen=True):
    """A voice that an engine brings with it."""

    id: str
    """What SynthesisRequest.voice takes."""
    name: str
    language: str
    """BCP 47."""


class EngineInfo(Struct, frozen=True, kw_only=True):
    """What an engine is and can do. Known once it has loaded."""

    name: str
    task: Task
    sample_rate: int
    """Hz, of the PCM it gives (speech) or takes (transcription)."""
    languages: tuple[str, ...]
    """BCP 47 tags it handles."""
    voices: tuple[VoiceInfo, ...] = ()
    clones_voices: bool = False
    revision: str = ""
    """Of the weights: features of one revision mean nothing to another."""
    is_embedded: bool = False
    """Runs on a bare machine without a download, at the quality one may expect of that."""
    speed_range: tuple[float, float] = (1.0, 1.0)
    """The speeds it renders itself; beyond them the server stretches time."""
    is_accurate: bool = True
    """False for a recogniser that gets every second or third word wrong."""
    honours: frozenset[str] = frozenset()
    """Optional request fields with an effect: "seed", "instructions", "strategy", "top_p", ..."""
    refuses_overload: bool = False
    """A stream that would make those which play run dry is refused (PoolConfig.max_load). False
    for an engine that is far faster than real time: it is asked for more than it can be given."""
    description: str = ""


class EngineStatus(Struct, frozen=True, kw_only=True):
    """How an engine's workers are."""

    state: EngineState
    """"absent": something that it needs is not on this machine, and `error` says what. An engine
    that sleeps is "ready": a request wakes it."""
    workers: int
    """Ready now."""
    jobs: int
    """In flight."""
    restarts: int
    """Since the server started."""
    error: str | None = None
    """Why there is no worker."""
    residence: Residence | None = None
    """Of its most wakeful worker; None for an engine without workers."""


class DeviceMemory(Struct, frozen=True):
    """A device's memory, as measured."""

    device: Device
    used_bytes: int
    """By this process."""
    total_bytes: int
    free_bytes: int
    """That nobody uses."""


class StageSteps(Struct, frozen=True, array_like=True):
    """What a worker has done of one stage of its engine's."""

    stage: str
    """As the plug-in names it."""
    steps: int
    jobs: int
    """That took part in those steps, summed: over `steps` it is the mean batch size."""


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """How one worker is."""

    residence: Residence
    device: Device
    """As measured; before that, as the settings name it."""
    memory: DeviceMemory | None
    """None: not measured, or the worker is not there."""
    idle_s: float | None
    """Since its last job ended; None while it has one."""
    jobs: int
    """In flight."""
    restarts: int
    """Since the server started."""
    wakes: int
    wake_s: float
    """That its wakes took together, from the request to be woken until it was resident."""
    error: str | None
    """Why it is not there."""
    steps: tuple[StageSteps, ...] = ()
    """Since the server started, as last measured; none of a transcriber."""


class VoiceStyle(Struct, frozen=True, kw_only=True):
    """How a person speaks, for engines that cannot clone but can follow. None: not known."""

    pitch_hz: float | None = None
    """Median."""
    pitch_span_semitones: float | None = None
    """From the 10th to the 90th percentile."""
    syllables_per_s: float | None = None


class VoicePrompt(Struct, frozen=True, kw_only=True):
    """A voice to clone: somebody's speech, and what is said in it."""

    digest: str
    """SHA-256 of the sound, hex: the same sound has the same features."""
    samples: bytes
    """float32 mono, native byte order."""
    sample_rate: int
    """Hz."""
    text: str
    language: str | None = None
    is_temporary: bool = False
    """Sent with one request: its features are kept in memory only."""


class PromptRef(Struct, frozen=True):
    """A prompt that the engine may have the features of already."""

    digest: str
    text: str


class PromptFeatures(Struct, frozen=True):
    """What a cloning engine needs of a prompt, computed once."""

    arrays: dict[str, npt.NDArray[np.generic]]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())


class Sampling(Struct, frozen=True, kw_only=True):
    """How an engine that draws its speech at random draws it. None: the engine's own value."""

    strategy: Literal["fast", "balanced", "quality"] | None = None
    """A preset of the engine's; the fields below override it."""
    temperature: float | None = None
    """Above 0; lower is steadier."""
    top_p: float | None = None
    """Above 0, up to 1: the probability mass drawn from."""
    top_k: int | None = None
    """At least 1: how many of the likeliest are drawn from."""


class SynthesisRequest(Struct, frozen=True, kw_only=True):
    """One text to speak."""

    text: str
    """Not blank; any Unicode without lone surrogates."""
    voice: str | None = None
    """A voice in the engine's own grammar; None for its default."""
    language: str | None = None
    """BCP 47; None lets the engine tell it from the text and the voice."""
    speed: float = 1.0
    """Within EngineInfo.speed_range."""
    seed: int | None = None
    sampling: Sampling = Sampling()
    instructions: str | None = None
    style: VoiceStyle | None = None
    """To be followed by an engine that honours "style"."""
    prompt: PromptRef | None = None
    """To be cloned by an engine that clones voices."""


class Word(Struct, frozen=True, array_like=True):
    """A word of the text and when it begins."""

    text: str
    start_s: float
    """Seconds from the start of the clip, before any time-stretch by the server."""


class StepOutput(Struct, frozen=True):
    """What one step made for one job."""

    job_id: int
    samples: Samples
    words: tuple[Word, ...] = ()
    """The words that begin in these samples, or a little before them."""
    progress: float | None = None
    """The share of the text that has been spoken for sure once these samples have been played, 0 to
    1. Never goes down in a job. None: not known."""


class PcmChunk(Struct, frozen=True):
    """A stretch of speech on its way to a client, at EngineInfo.sample_rate."""

    samples: Samples
    words: tuple[Word, ...] = ()
    compute_s: float = 0.0
    """Time spent in steps of this job since the chunk before, s."""
    progress: float | None = None
    """As StepOutput's."""


class SpeechDetection(Struct, frozen=True, kw_only=True):
    """How speech is told from silence before it is transcribed."""

    threshold: float = 0.5
    """Probability of speech from which a moment counts as such; 0 to 1."""
    padding_s: float = 0.3
    """Kept around speech."""
    min_silence_s: float = 0.2
    """Silence that ends a stretch of speech."""


class TranscribeOptions(Struct, frozen=True, kw_only=True):
    """How to transcribe one recording."""

    task: Literal["transcribe", "translate"] = "transcribe"
    """"translate" writes English whatever was spoken."""
    language: str | None = None
    """ISO 639-1 code of what is spoken; None lets the engine tell."""
    prompt: str | None = None
    """Text before the recording's, in the style that is wanted."""
    keywords: tuple[str, ...] = ()
    """Words that are likely to occur."""
    temperature: float = 0.0
    """0 is the most likely text; up to 1."""
    with_words: bool = False
    """Give each segment's words with their times."""
    is_live: bool = False
    """Somebody watches: the first segment soon matters more than the last one sooner."""
    detection: SpeechDetection | None = None
    """None: the engine's own defaults."""


class SpokenWord(Struct, frozen=True, array_like=True):
    """A word that was heard, as it stands in the segment's text: joined, words give the text."""

    text: str
    start_s: float
    end_s: float
    probability: float
    """0 to 1."""


class Segment(Struct, frozen=True, array_like=True):
    """A stretch of a transcript. Times are seconds from the start of the recording.

    Segments come in order, without overlap; their texts joined are the transcript.
    """

    start_s: float
    end_s: float
    text: str
    words: tuple[SpokenWord, ...] = ()
    """Empty unless they were asked for."""
    tokens: tuple[int, ...] = ()
    """The engine's own; empty where it has none."""
    seek: int = 0
    """Frame of 10 ms at which the engine's window began."""
    temperature: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 0.0
    no_speech_prob: float = 0.0


class TranscriptInfo(Struct, frozen=True):
    """What is known of a recording before its first segment."""

    language: str
    """ISO 639-1 code."""
    language_probability: float


class Job:
    """A plug-in's own state for one request; plug-ins subclass it.

    Attributes:
        id: Unique in the worker.
        stage: The stage that it waits for; None once it has given all its audio.
        is_cancelled: The client has left. Set by the runtime from another thread: a step that
            takes more than a few milliseconds looks at it and stops early.
        remark: What the log should say of the speech: it was cut off, for one. Never the text.
        is_in_flight: The device works on what a step began for it; see `protocol.Overlapping`. Set
            by the plug-in. Its stage may go on meanwhile.
    """

    def __init__(self, job_id: int, stage: str) -> None:
        self.id = job_id
        self.stage: str | None = stage
        self.is_cancelled = False
        self.remark: str | None = None
        self.is_in_flight = False

    @property
    def is_joining(self) -> bool:
        """Its next step is short, and lets it take part in those of others."""
        return False

    @property
    def aside(self) -> str | None:
        """A stage whose steps it takes part in while it waits for its own, when others have one."""
        return None
