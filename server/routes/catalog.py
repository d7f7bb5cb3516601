"""Models and voices: /v1/models, /v1/audio/models, /v1/audio/voices."""

from __future__ import annotations

from litestar import get

from server.auth import CATALOG
from server.catalog import Catalog
from server.schemas.catalog import AudioModels, Model, ModelList, VoiceList


@get("/v1/models", opt=CATALOG)
async def list_models(catalog: Catalog) -> ModelList:
    """All models, aliases among them: several clients look for OpenAI's names."""
    return ModelList(catalog.models())


@get("/v1/models/{model_id:path}", opt=CATALOG)
async def get_model(model_id: str, catalog: Catalog) -> Model:
    """One model; its id may hold slashes."""
    return catalog.model(model_id.removeprefix("/"))


@get("/v1/audio/models", opt=CATALOG)
async def list_audio_models(catalog: Catalog) -> AudioModels:
    return AudioModels(catalog.models())


@get("/v1/audio/voices", opt=CATALOG)
async def list_voices(catalog: Catalog) -> VoiceList:
    voices = catalog.voices()
    return VoiceList(voices=voices, data=voices)
