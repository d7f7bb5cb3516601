"""What the server offers: models and voices by the names that clients use. Event loop only."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import NoReturn, TypeVar

from msgspec import Struct
from msgspec.structs import asdict

from engine.errors import WorkerUnavailable
from engine.protocol import EngineFace, SpeechEngine, TranscriptionEngine
from engine.registry import PLUGINS
from engine.types import EngineInfo, SynthesisRequest
from server.errors import ApiError
from server.schemas.catalog import Model
from server.schemas.voices import Voice
from server.settings import Settings
from voices.builtin import builtin_voices

Face = TypeVar("Face", bound=EngineFace)

_NAMES_SHOWN = 20


class Engines(Struct, frozen=True):
    """The engines that run, by name."""

    speech: Mapping[str, SpeechEngine] = {}
    transcription: Mapping[str, TranscriptionEngine] = {}

    def all(self) -> dict[str, EngineFace]:
        return {**self.speech, **self.transcription}


class Catalog:
    """Engines by model name, voices by voice name.

    Args:
        settings: Aliases and voice tables.
        engines: What runs.
    """

    def __init__(self, settings: Settings, engines: Engines) -> None:
        self.engines = engines
        self._settings = settings
        self._voices = {
            name: {**(PLUGINS[name].voices if name in PLUGINS else {}), **engine.voices}
            for name, engine in settings.running.items()
        }
        self._created = int(time.time())

    def speech_engine(self, model: str) -> SpeechEngine:
        """The engine that speaks for a model name.

        Raises:
            ApiError: 404, no such model; 400, it does not speak.
        """
        return self.engines.speech.get(self._engine_name(model)) or self._refuse(model, "speak")

    def transcription_engine(self, model: str) -> TranscriptionEngine:
        """The engine that listens for a model name.

        Raises:
            ApiError: 404, no such model; 400, it does not listen.
        """
        name = self._engine_name(model)
        return self.engines.transcription.get(name) or self._refuse(model, "transcribe")

    def preferred_speaker(self) -> SpeechEngine:
        """The most preferred that has all it needs on this machine; else the most preferred."""
        return _preferred(self.engines.speech, self._settings.speech_engines)

    def preferred_transcriber(self) -> TranscriptionEngine:
        """The most preferred that has all it needs on this machine; else the most preferred.

        Raises:
            WorkerUnavailable: none runs.
        """
        if not (engines := self.engines.transcription):
            raise WorkerUnavailable("no engine that transcribes runs here", retry_after_s=60.0)
        return _preferred(engines, (*self._settings.transcription_engines, *engines))

    def engine_voice(self, engine: str, voice: str) -> str:
        """The engine's own voice that a name means; one that no table knows is the engine's."""
        return self._voices.get(engine, {}).get(voice, voice)

    def unknown_voice(self, engine: str, voice: str) -> ApiError:
        """What to say of a voice that the engine refused."""
        names = ", ".join(list(self._voices.get(engine, {}))[:_NAMES_SHOWN])
        message = (
            f"The voice {voice[:200]!r} does not exist; there are: {names}, "
            "and those that GET /v1/audio/voices lists."
        )
        return ApiError(400, message, param="voice", code="voice_not_found")

    def models(self) -> tuple[Model, ...]:
        """Real names first, then aliases."""
        return tuple(self.model(name) for name in self._model_names())

    def model(self, name: str) -> Model:
        """One model.

        Raises:
            ApiError: 404, no such model.
        """
        engine_name = self._engine_name(name)
        engine = self.engines.all()[engine_name]
        info = engine.info
        return Model(
            id=name,
            created=self._created,
            engine=engine_name,
            task="speech" if engine_name in self.engines.speech else "transcription",
            state=engine.status.state,
            residence=engine.status.residence,
            clones_voices=info.clones_voices if info else None,
            embedded=info.is_embedded if info else None,
            accurate=info.is_accurate if info else None,
            honours=tuple(sorted(info.honours)) if info else None,
            description=engine.status.error or (info.description if info else ""),
        )

    def voices(self) -> tuple[Voice, ...]:
        """Names of the default engine's table first, then the voices that it brings."""
        engine = self.preferred_speaker()
        default, info = engine.name, engine.info
        shipped = builtin_voices() if info and info.clones_voices else {}
        named = [
            Voice(id=name, name=name, created_at=self._created, type="builtin")
            for name in {**self._voices.get(default, {}), **shipped}
        ]
        brought = [
            Voice(
                id=voice.id,
                name=voice.name,
                created_at=self._created,
                type="engine",
                language=voice.language,
            )
            for voice in (info.voices if info else ())
        ]
        return (*named, *brought)

    def _model_names(self) -> list[str]:
        settings = self._settings
        transcription = settings.transcription_aliases if self.engines.transcription else ()
        return [*self.engines.all(), *settings.speech_aliases, *transcription]

    def _engine_name(self, model: str) -> str:
        """Of a name that the catalogue lists."""
        if model in self.engines.all():
            return model
        if model in self._settings.speech_aliases:
            return self.preferred_speaker().name
        if model in self._settings.transcription_aliases and self.engines.transcription:
            return self.preferred_transcriber().name
        message = f"The model {model[:200]!r} does not exist; there are: "
        message += f"{', '.join(self._model_names())}."
        raise ApiError(404, message, param="model", code="model_not_found")

    def _refuse(self, model: str, verb: str) -> NoReturn:
        message = f"The model {model!r} cannot {verb}."
        raise ApiError(400, message, param="model", code="model_not_supported")


def _preferred(engines: Mapping[str, Face], names: Iterable[str]) -> Face:
    ranked = [engines[name] for name in names if name in engines]
    present = (engine for engine in ranked if engine.status.state != "absent")
    return next(present, ranked[0])


def engine_headers(info: EngineInfo) -> dict[str, str]:
    """Which engine answers, and whether it is one to be wary of."""
    headers = {"x-rhapsode-engine": info.name}
    if not info.is_accurate:
        headers["x-rhapsode-accuracy"] = "low"
    return headers


def ignored_headers(request: SynthesisRequest, info: EngineInfo) -> dict[str, str]:
    """Which of the fields that were given have no effect on this engine."""
    given = {
        "seed": request.seed,
        "instructions": request.instructions,
        **asdict(request.sampling),
    }
    ignored = [
        name for name, value in given.items() if value is not None and name not in info.honours
    ]
    return {"x-rhapsode-ignored": ", ".join(ignored)} if ignored else {}
