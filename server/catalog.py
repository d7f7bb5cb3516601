"""What the server offers: models and voices by the names that clients use. Event loop only."""

from __future__ import annotations

import time
from collections.abc import Mapping

from engine.protocol import SpeechEngine
from engine.registry import PLUGINS
from server.errors import ApiError
from server.schemas.catalog import Model, Voice
from server.settings import Settings

_NAMES_SHOWN = 20


class Catalog:
    """Engines by model name, their voices by voice name.

    Args:
        settings: Aliases and voice tables.
        engines: The pools that run, by engine name.
    """

    def __init__(self, settings: Settings, engines: Mapping[str, SpeechEngine]) -> None:
        self._engines = engines
        self._aliases = dict.fromkeys(settings.speech_aliases, settings.speech_engine)
        self._voices = {
            name: {**(PLUGINS[name].voices if name in PLUGINS else {}), **engine.voices}
            for name, engine in settings.running.items()
        }
        self._default = settings.speech_engine
        self._created = int(time.time())

    @property
    def engines(self) -> Mapping[str, SpeechEngine]:
        return self._engines

    def engine(self, model: str) -> SpeechEngine:
        """The engine that a model name means.

        Raises:
            ApiError: 404, no such model.
        """
        if (pool := self._engines.get(self._aliases.get(model, model))) is None:
            known = ", ".join([*self._aliases, *self._engines])
            message = f"The model {model[:200]!r} does not exist; there are: {known}."
            raise ApiError(404, message, param="model", code="model_not_found")
        return pool

    def engine_voice(self, engine: str, voice: str) -> str:
        """The engine's own voice that a name means; one that no table knows is the engine's.

        Raises:
            ApiError: 400, the name is empty.
        """
        if not voice.strip():
            raise self.unknown_voice(engine, voice)
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
        names = [*self._engines, *self._aliases]
        return tuple(self.model(name) for name in names)

    def model(self, name: str) -> Model:
        """One model.

        Raises:
            ApiError: 404, no such model.
        """
        pool = self.engine(name)
        info = pool.info
        return Model(
            id=name,
            created=self._created,
            engine=pool.name,
            task=info.task if info else PLUGINS[pool.name].task,
            state=pool.status.state,
            clones_voices=info.clones_voices if info else None,
            embedded=info.is_embedded if info else None,
            description=info.description if info else "",
        )

    def voices(self) -> tuple[Voice, ...]:
        """Names of the default engine's table first, then the voices that it brings."""
        named = [
            Voice(id=name, name=name, created_at=self._created, type="builtin")
            for name in self._voices.get(self._default, {})
        ]
        info = self._engines[self._default].info
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
