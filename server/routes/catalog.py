"""Models: /v1/models, /v1/audio/models."""

from __future__ import annotations

from litestar import route
from litestar.di import NamedDependency
from litestar.params import FromPath

from server.auth import CATALOG
from server.catalog import Catalog
from server.routes import GET
from server.schemas.catalog import AudioModels, Model, ModelList


@route("/v1/models", http_method=GET, opt=CATALOG)
async def list_models(catalog: NamedDependency[Catalog]) -> ModelList:
    """All models, aliases among them: several clients look for OpenAI's names."""
    return ModelList(catalog.models())


@route("/v1/models/{model_id:path}", http_method=GET, opt=CATALOG)
async def get_model(model_id: FromPath[str], catalog: NamedDependency[Catalog]) -> Model:
    """One model; its id may hold slashes."""
    return catalog.model(model_id.removeprefix("/"))


@route("/v1/audio/models", http_method=GET, opt=CATALOG)
async def list_audio_models(catalog: NamedDependency[Catalog]) -> AudioModels:
    return AudioModels(catalog.models())
