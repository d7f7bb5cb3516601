"""Settings: defaults < TOML file < RHAPSODE_* environment < command line.

An unknown key or a bad value stops the start with one line that names it. A key is written
`limits.input_chars` on the command line (`--set`) and `RHAPSODE_LIMITS__INPUT_CHARS` in the
environment; lists are comma-separated there.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from engine.config import OptionValue, PoolConfig
from engine.registry import PLUGINS
from engine.runtime.log import LogFormat
from engine.types import Task
from server.audio.decode import DecodeLimits
from voices.limits import StoreLimits

_ENV_PREFIX = "RHAPSODE_"
_ENV_CONFIG = "RHAPSODE_CONFIG"


class SettingsError(Exception):
    """A setting that cannot be; the message is one line for a person."""


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request may be."""

    input_chars: int = 4096
    """Code points of text in a speech request."""
    json_bytes: int = 1 << 20
    """Size of a JSON body."""
    upload_bytes: int = 26_214_400
    """Size of a multipart body."""
    recording_s: int = 4 * 3600
    """Duration of a recording."""
    recording_channels: int = 8
    head_read_s: float = 10.0
    """How long a request's line and headers may take to come, s."""
    body_read_s: float = 300.0
    """How long its body may take, s."""
    stalled_reader_s: float = 60.0
    """After which a client that takes nothing of what is sent to it is left, s."""
    request_s: float = 6 * 3600.0
    """How long a request may take in all, s."""

    @property
    def decode(self) -> DecodeLimits:
        return DecodeLimits(max_duration_s=self.recording_s, max_channels=self.recording_channels)

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            if isinstance(value := getattr(self, field), int) and value < 1:
                raise ValueError(f"{field} must be 1 or more")
            if not value > 0:
                raise ValueError(f"{field} must be above 0")


class KeyLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one API key may ask for; None and 0: no limit."""

    requests_in_flight: int | None = None
    """Requests that an engine has, or that wait for it."""
    requests_per_minute: int | None = None
    """POST requests of any kind."""
    chars_per_minute: int | None = None
    """Code points of text to speak."""

    def __post_init__(self) -> None:
        for field in KeyLimits.__struct_fields__:
            if (getattr(self, field) or 0) < 0:
                raise ValueError(f"{field} must be 0 or more")


class KeySettings(KeyLimits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One API key, by its name; limits that are None are those of all keys."""

    hash: str | None = None
    """SHA-256 of the key, 64 hex digits. None: `keys_file` has it, or `api_keys`."""
    batch: bool = False
    """Its requests wait behind the others', whatever they say."""

    def over(self, common: KeyLimits) -> KeyLimits:
        """The key's limits."""
        names = KeyLimits.__struct_fields__
        own = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(common, **own)


class QueueSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who waits when an engine has as many jobs as it may have."""

    waiting: int = 64
    """Requests that wait for one engine; 0: none, they are refused."""
    key_waiting: int = 16
    """Of one API key."""
    wait_s: float = 2.0
    """How long they wait; then they are refused."""
    batch_wait_s: float = 60.0
    """The same for batch work."""

    def __post_init__(self) -> None:
        if min(self.waiting, self.key_waiting) < 0:
            raise ValueError("waiting and key_waiting must be 0 or more")
        if not min(self.wait_s, self.batch_wait_s) > 0:
            raise ValueError("wait_s and batch_wait_s must be above 0")


class VoiceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Voices that people give us."""

    place: str | None = None
    """A folder, or s3://, gs:// or file:// for several hosts. None: the user's data folder."""
    limits: StoreLimits = StoreLimits()
    require_consent: bool = False
    """An upload must name a consent that is kept here."""


class McpSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tools for MCP clients: /mcp, and `rhapsode mcp`."""

    folders: tuple[str, ...] = ()
    """All that tools may read and write, by every key; relative paths are of the first. None:
    sound travels within the messages only."""
    allowed_hosts: tuple[str, ...] = ()
    """Hosts that /mcp answers to besides this machine's own names: "speech.lan", or with any port,
    "speech.lan:*". Without any, and with API keys, it answers to all: a page that had its own name
    pointed here could not know a key."""
    request_bytes: int = 4 << 20
    """Size of a request to /mcp; a recording is base64 in it."""

    def __post_init__(self) -> None:
        if self.request_bytes < 1:
            raise ValueError("request_bytes must be 1 or more")


class EngineSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One engine."""

    enabled: bool = True
    task: Task | None = None
    """What an engine that is not ours is for."""
    devices: tuple[str, ...] | None = None
    """A worker process each: "cpu", "cuda:0", ... None: one, where the engine runs best."""
    options: dict[str, OptionValue] = {}
    """The plug-in's own options: see engine/config.py."""
    voices: dict[str, str] = {}
    """Voice name -> the engine's voice; adds rows to the plug-in's own table, or replaces them."""
    max_jobs: int | None = None
    """Requests that it has at once; the others wait. None: pool.max_jobs, which is above all."""

    def __post_init__(self) -> None:
        if self.max_jobs is not None and self.max_jobs < 1:
            raise ValueError("max_jobs must be 1 or more")
        if self.devices is not None and not self.devices:
            raise ValueError("devices must name at least one")


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of them."""

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = ()
    """Bearer keys that are let in, called key-1, key-2, ...; no key here or below: everybody is."""
    keys_file: str | None = None
    """A file with a line `name:hash` for each of more keys: see `rhapsode keys add`."""
    keys: dict[str, KeySettings] = {}
    """Keys by their hash, and limits of keys, by name."""
    key_limits: KeyLimits = KeyLimits()
    """Of each key."""
    open_catalog: bool = True
    """Lists of models and voices need no key: Open WebUI asks for them without one."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call; none by default."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: LogFormat = "text"
    """"json": one object a line, of the workers too."""
    tracing: bool = False
    """Send a trace of each request to where OTEL_EXPORTER_OTLP_ENDPOINT says; needs [otel]."""
    tracing_endpoint: str | None = None
    """Or to this collector, by OTLP over HTTP: "http://127.0.0.1:4318"."""
    drain_s: int = 30
    """How long streams may go on after SIGTERM, s."""
    announce_s: float = 0.0
    """How long requests are taken after SIGTERM while /ready says 503 already, s: for a balancer to
    see it."""
    codec_threads: int = 2
    """Threads that encode audio."""
    recordings: int = 256
    """Recordings that are open at once, a process each; one more is refused."""
    limits: Limits = Limits()
    queue: QueueSettings = QueueSettings()
    pool: PoolConfig = PoolConfig()
    voices: VoiceSettings = VoiceSettings()
    mcp: McpSettings = McpSettings()
    engines: dict[str, EngineSettings] = {}
    """By name; all that we bring run unless they are disabled here."""
    speech_engines: tuple[str, ...] = ("glm-tts", "espeak-ng")
    """In order of preference: the first that has its model on this machine answers for aliases."""
    speech_aliases: tuple[str, ...] = (
        "tts-1",
        "tts-1-hd",
        "gpt-4o-mini-tts",
        "gpt-4o-mini-tts-2025-12-15",
    )
    """Model names of OpenAI's that mean the preferred speech engine."""
    transcription_engines: tuple[str, ...] = ("whisper", "pocketsphinx")
    """In order of preference: the first that has its model on this machine answers for aliases."""
    transcription_aliases: tuple[str, ...] = (
        "whisper-1",
        "gpt-4o-transcribe",
        "gpt-4o-mini-transcribe",
        "gpt-4o-mini-transcribe-2025-12-15",
        "gpt-4o-transcribe-diarize",
        "gpt-transcribe",
    )
    """Model names of OpenAI's that mean the preferred transcription engine."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError("port must be within 0 and 65535")
        if self.codec_threads < 1:
            raise ValueError("codec_threads must be 1 or more")
        if self.recordings < 1:
            raise ValueError("recordings must be 1 or more")
        if not self.announce_s >= 0:
            raise ValueError("announce_s must be 0 or more")
        for name, engine in self.engines.items():
            _check_engine(name, engine)
        if not any(name in self.running for name in self.speech_engines):
            names = ", ".join(map(repr, self.speech_engines))
            raise ValueError(f"speech_engines: none of {names} is among the engines")

    @property
    def has_keys(self) -> bool:
        """Whether a key is needed."""
        return bool(self.api_keys or self.keys or self.keys_file)

    def max_jobs_of(self, engine: str) -> int:
        """Requests that an engine has at once."""
        own = self.engines.get(engine, EngineSettings()).max_jobs
        return min(own or self.pool.max_jobs, self.pool.max_jobs)

    @property
    def running(self) -> dict[str, EngineSettings]:
        """The engines to run: ours and those that are set, less the disabled."""
        ours = {name: EngineSettings() for name in PLUGINS}
        return {name: each for name, each in (ours | self.engines).items() if each.enabled}


def task_of(name: str, engine: EngineSettings) -> Task:
    return PLUGINS[name].task if name in PLUGINS else engine.task or "speech"


def devices_of(name: str, engine: EngineSettings) -> tuple[str, ...]:
    """Where its workers run."""
    return engine.devices or (PLUGINS[name].device if name in PLUGINS else "cpu",)


def _check_engine(name: str, engine: EngineSettings) -> None:
    if (plugin := PLUGINS.get(name)) is None:
        if ":" not in name:
            raise ValueError(f"engines: unknown engine {name!r}; known: {', '.join(PLUGINS)}")
        return
    try:
        msgspec.convert(engine.options, plugin.options, strict=False)
    except msgspec.ValidationError as exc:
        raise ValueError(f"engines.{name}.options: {exc}") from exc


def load_settings(
    config: Path | None, environ: Mapping[str, str], overrides: Sequence[tuple[str, str]] = ()
) -> Settings:
    """Read and check all settings.

    Args:
        config: TOML file; None takes RHAPSODE_CONFIG, or no file.
        environ: The environment.
        overrides: From the command line: (dotted key, value).
    Raises:
        SettingsError: unreadable file, unknown key, bad value.
    """
    if config is None and (named := environ.get(_ENV_CONFIG)):
        config = Path(named)
    tree = _read_toml(config) if config else {}
    for name, value in sorted(environ.items()):
        if name.startswith(_ENV_PREFIX) and name != _ENV_CONFIG:
            dotted = name.removeprefix(_ENV_PREFIX).lower().replace("__", ".")
            _put(tree, dotted, value, f"environment variable {name}")
    for dotted, value in overrides:
        _put(tree, dotted, value, f"--set {dotted}")
    try:
        # Not strict: numbers and booleans come as text from the environment.
        return msgspec.convert(tree, Settings, strict=False)
    except msgspec.ValidationError as exc:
        raise SettingsError(f"bad setting: {exc}") from exc


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise SettingsError(f"cannot read {path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path} is not TOML: {exc}") from exc


def _put(tree: dict[str, Any], dotted: str, text: str, origin: str) -> None:
    """Set one leaf of the tree from text, by the type of its field."""
    *parents, leaf = dotted.split(".")
    struct: Any = Settings
    for key in parents:
        struct = _field_type(struct, key, origin)
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise SettingsError(f"bad setting: {origin}: {key} is not a section")
    is_list = getattr(_field_type(struct, leaf, origin), "__origin__", None) is tuple
    tree[leaf] = [part.strip() for part in text.split(",") if part.strip()] if is_list else text


def _field_type(struct: Any, key: str, origin: str) -> Any:
    if getattr(struct, "__origin__", None) is dict:
        return struct.__args__[1]
    if isinstance(struct, type) and issubclass(struct, Struct):
        for field in msgspec.structs.fields(struct):
            if field.name == key:
                return field.type
    raise SettingsError(f"bad setting: {origin}: unknown key {key!r}")
