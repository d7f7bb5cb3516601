"""Settings of the engine room: one frozen struct a plug-in, and one for a pool of workers."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

OptionValue: TypeAlias = str | int | float | bool | list[int] | None
"""What a field of an options struct may hold, as it comes from TOML or JSON."""


class EspeakOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The embedded voice."""

    words_per_minute: int = 175
    """Pace at speed 1.0; 80 to 450."""
    chunk_ms: int = 40
    """Audio handed on at a time, in milliseconds; 10 to 1000."""

    def __post_init__(self) -> None:
        if not 80 <= self.words_per_minute <= 450:
            raise ValueError("words_per_minute must be within 80 and 450")
        if not 10 <= self.chunk_ms <= 1000:
            raise ValueError("chunk_ms must be within 10 and 1000")


class PocketsphinxOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The embedded recogniser."""

    max_utterance_s: float = 15.0
    """Speech without a pause is cut here; 1 to 60."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_utterance_s <= 60:
            raise ValueError("max_utterance_s must be within 1 and 60")


class WhisperOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """faster-whisper."""

    model: str | None = None
    """A faster-whisper name ("large-v3-turbo"), a repository on the hub, or a local folder. None:
    the best that is on this machine."""
    compute_type: str | None = None
    """CTranslate2's; None: int8 on a CPU, float16 on a GPU."""
    batch_size: int = 8
    """Windows of 30 s decoded at once; 1 to 64."""
    cpu_threads: int = 0
    """0 leaves it to CTranslate2."""
    download: bool = False
    """Fetch a model that is not on disk when the worker starts."""

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= 64:
            raise ValueError("batch_size must be within 1 and 64")


class GlmTtsOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """GLM-TTS."""

    model: str | None = None
    """A local folder with the published files. None: where `rhapsode models pull glm-tts` puts
    them, or the hub's own cache."""
    random_weights: int | None = None
    """Seed of weights made up on the spot: noise instead of speech, at a real model's pace."""
    size: Literal["true", "tiny"] = "true"
    """Of a model with random weights."""
    sample_rate: Literal[24000, 32000] = 24000
    """Hz; 32000 needs the second vocoder's file."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the language model; auto: float32 on a CPU, bfloat16 on a GPU."""
    llm_weights: Literal["full", "int8"] = "full"
    """Of the language model's layers: as `precision` has them, or int8 with a scale for each row,
    which is half of what a step has to read on a GPU."""
    flow_precision: Literal["auto", "float32", "tf32", "float16", "bfloat16"] = "auto"
    """Of the flow's matrix products; what they add up to is float32. auto: float32 on a CPU, where
    there is nothing else, float16 on a GPU."""
    vocoder_precision: Literal["float32", "float16"] = "float32"
    """Of the vocoder's convolutions on a GPU. float16 is faster and 46 dB below full scale off."""
    max_batch: int = 0
    """Jobs in one step; 0: 64 on a GPU, 1 on a CPU, where a batch gains nothing."""
    context_tokens: int = 2048
    """Text, prompt and speech that the language model holds for a job."""
    min_tokens_per_text_token: float = 2.0
    """Speech tokens before the end may come."""
    max_tokens_per_text_token: float = 20.0
    """Speech tokens after which a text is cut off."""
    block_tokens: tuple[int, ...] = (25, 50, 200)
    """Speech tokens rendered at a time, first block first; the last size repeats. 25 are 1 s."""
    look_ahead_tokens: tuple[int, ...] = (12, 25)
    """Tokens seen beyond a block, likewise."""
    left_context_tokens: int = 50
    """Tokens before a block that it is rendered with; 0: all of them, at quadratic cost."""
    fade_s: float = 0.1
    """Over which a block fades in where the one before has seen it already, s."""
    max_silence_s: float = 3.0
    """Silence after which a stretch of speech is ended; 0: never."""
    flow_mask: Literal["none", "blocks", "blocks-12hz"] = "none"
    """How far ahead a frame sees within what is rendered together: everything; by blocks; or by
    blocks counted as the model before this one did, 12.5 tokens and 86 frames a second."""
    normalize_text: bool = True
    """Numbers, dates and signs into words."""
    phonemes: bool = False
    """Rare characters by their sound; needs the published tables."""

    def __post_init__(self) -> None:
        if not self.block_tokens or min(self.block_tokens) < 1:
            raise ValueError("block_tokens must be at least 1 each, and one at least")
        if not self.look_ahead_tokens or min(self.look_ahead_tokens) < 0:
            raise ValueError("look_ahead_tokens must be at least 0 each, and one at least")
        if not 0 <= self.min_tokens_per_text_token < self.max_tokens_per_text_token:
            raise ValueError("min_tokens_per_text_token must be below max_tokens_per_text_token")
        if not 0 <= self.fade_s <= 0.5:
            raise ValueError("fade_s must be within 0 and 0.5")
        if min(self.max_batch, self.left_context_tokens) < 0:
            raise ValueError("max_batch and left_context_tokens must not be negative")
        if not 512 <= self.context_tokens <= 8192:
            raise ValueError("context_tokens must be within 512 and 8192")


ESPEAK_VOICES = {
    "alloy": "en-us+robosoft8",
    "ash": "en-us+klatt4",
    "ballad": "en-gb+edward",
    "coral": "en-us+f3",
    "echo": "en-us+robosoft2",
    "fable": "en-gb+Reed",
    "onyx": "en-us+announcer",
    "nova": "en-us+f5",
    "sage": "en-us+f1",
    "shimmer": "en-us+anikaRobot",
    "verse": "en-us+Henrique",
    "marin": "en-us+f2",
    "cedar": "en-us+mike2",
}
"""A voice for each name of OpenAI's, unlike all others, in espeak-ng's grammar.

Chosen by pitch (median F0 from 69 Hz, "onyx", to 274 Hz, "shimmer"), then by how many words a
recogniser understood.
"""


class WorkerConfig(Struct, frozen=True, kw_only=True):
    """What one worker process is told on its command line."""

    engine: str
    """A name in `engine.registry`, or `module:callable`."""
    device: str = "cpu"
    options: dict[str, OptionValue] = {}
    """Fields of the plug-in's options struct."""
    features_dir: str | None = None
    """Folder of the features of voices; None keeps them in memory only."""
    features_memory_bytes: int = 256 << 20
    """Features kept in memory."""


class PoolConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the workers of one engine are run."""

    restart_delay_s: float = 0.1
    """Pause before the first restart of a dead worker; doubles with each further death."""
    restart_delay_max_s: float = 30.0
    stable_after_s: float = 30.0
    """A worker that lived this long, or has finished a job, starts the doubling afresh."""
    hang_s: float = 30.0
    """A worker that spends this long in one step, or says nothing for so long, is ended as hung and
    replaced; half-way there it gets no more jobs. 0: never."""
    hang_load_s: float = 600.0
    """The same for what may take longer: a load, with the model's download if there is one; a move
    to or from the device; a prompt; steps of a large model on a CPU. 0: never."""
    look_again_s: float = 10.0
    """How often to look for a model that is not on disk."""
    wait_s: float = 10.0
    """How long a request waits for a worker that is starting; then it fails as unavailable."""
    max_jobs: int = 1000
    """Jobs in flight; one more is refused as overloaded."""
    buffer_s: float = 4.0
    """Audio a worker may be ahead of a client that reads slowly."""
    idle_offload_s: float = 0.0
    """Seconds after its last job until a worker's weights leave the device for the host's memory;
    0: never. 60 to 600 suit a device that others want too."""
    idle_stop_s: float = 0.0
    """Seconds after its last job until a worker's process ends; 0: never. Nothing of it remains on
    the device then, and the next request starts it again."""
    wake_s: float = 60.0
    """How long a request waits for an engine that it has woken; then it fails as unavailable."""
    device_budget_bytes: int | None = None
    """Memory of one device that all engines together may take; None: all there is. To wake one
    sends the engine that has been idle longest on that device to sleep, if there is no room."""
    max_load: float = 0.9
    """Share of real time that the streams of a worker may take to compute; one more is refused as
    overloaded. 0: never. For engines whose `EngineInfo.refuses_overload` says so."""

    def __post_init__(self) -> None:
        for name in ("hang_s", "hang_load_s", "idle_offload_s", "idle_stop_s", "max_load"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more")
        if self.idle_stop_s and self.idle_stop_s <= self.idle_offload_s:
            raise ValueError("idle_stop_s must be above idle_offload_s")
        if not self.wake_s > 0:
            raise ValueError("wake_s must be above 0")
        if self.device_budget_bytes is not None and self.device_budget_bytes < 1:
            raise ValueError("device_budget_bytes must be 1 or more")
