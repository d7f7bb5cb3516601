"""Wiring, and nothing else."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from litestar import Litestar, Router, asgi
from litestar.config.cors import CORSConfig
from litestar.di import Provide

from engine.config import WorkerConfig
from engine.runtime.devices import Devices
from engine.runtime.pool import EnginePool
from engine.types import Task
from server.auth import key_guard
from server.catalog import Catalog, Engines
from server.context import stamp_headers
from server.deadlines import deadlines
from server.decoders import Decoders
from server.enrollment import Enroller
from server.errors import handle_error
from server.keys import read_keyring
from server.library import VoiceLibrary
from server.mcp.endpoint import McpEndpoint
from server.mcp.tools import Tools
from server.quotas import Quotas
from server.recents import Ledger
from server.routes.article import article_router
from server.routes.catalog import get_model, list_audio_models, list_models
from server.routes.consents import (
    create_consent,
    delete_consent,
    get_consent,
    list_consents,
    rename_consent,
)
from server.routes.engines import (
    get_engine,
    get_metrics,
    list_engines,
    load_engine,
    offload_engine,
    stop_engine,
)
from server.routes.health import Drain, get_health, get_ready
from server.routes.openapi import get_openapi
from server.routes.page import get_about, get_root, get_static
from server.routes.requests import list_requests
from server.routes.speech import create_speech
from server.routes.transcription import create_transcription, create_translation
from server.routes.voices import (
    change_voice,
    create_voice,
    delete_voice,
    export_voice,
    get_voice,
    get_voice_audio,
    import_voice,
    list_voices,
)
from server.settings import EngineSettings, Settings, devices_of, task_of
from server.tracing import open_tracing
from server.turns import Turns
from voices.opening import default_cache, default_place, open_consents, open_voices


def create_app(settings: Settings, engines: Engines, drain: Drain | None = None) -> Litestar:
    """The ASGI app.

    Args:
        settings: Checked.
        engines: An EnginePool lives as long as the app; others are the caller's to run.
        drain: Who serves the app says there that it is about to end.
    Raises:
        StoreUnavailable: voices cannot be kept where the settings say.
        SettingsError: a folder that the settings name is not there, or their keys cannot be read.
    """
    keyring = read_keyring(settings)
    quotas = Quotas(keyring)
    turns = Turns(settings, quotas)
    catalog = Catalog(settings, engines)
    codecs = ThreadPoolExecutor(settings.codec_threads, thread_name_prefix="codec")
    library = create_library(settings, catalog, codecs)
    decoders = Decoders(settings.recordings, log_level=settings.log_level)
    enroller = Enroller(library, catalog, decoders, turns)
    ledger = Ledger(open_tracing(settings, os.environ))
    tools = Tools(settings, catalog, library, enroller, ledger, codecs, decoders, turns)
    mcp = McpEndpoint(tools, settings)
    uploads = Router(
        "/",
        route_handlers=[
            create_transcription,
            create_translation,
            create_voice,
            import_voice,
            create_consent,
        ],
        request_max_body_size=settings.limits.upload_bytes,
    )
    return Litestar(
        route_handlers=[
            create_speech,
            uploads,
            article_router(settings.limits.upload_bytes),
            list_models,
            get_model,
            list_audio_models,
            list_voices,
            get_voice,
            get_voice_audio,
            change_voice,
            delete_voice,
            export_voice,
            list_consents,
            get_consent,
            rename_consent,
            delete_consent,
            list_engines,
            get_engine,
            load_engine,
            offload_engine,
            stop_engine,
            get_metrics,
            list_requests,
            get_health,
            get_ready,
            get_openapi,
            get_about,
            get_root,
            get_static,
            asgi("/mcp", copy_scope=True)(mcp.answer),
        ],
        dependencies={
            "settings": _provide(settings),
            "catalog": _provide(catalog),
            "codecs": _provide(codecs),
            "decoders": _provide(decoders),
            "library": _provide(library),
            "ledger": _provide(ledger),
            "pools": _provide({pool.name: pool for pool in pools_of(engines)}),
            "enroller": _provide(enroller),
            "turns": _provide(turns),
            "drain": _provide(drain or Drain()),
        },
        guards=[key_guard(keyring, quotas, open_catalog=settings.open_catalog)],
        middleware=[deadlines(settings.limits)],
        before_send=[stamp_headers],
        exception_handlers={Exception: handle_error},
        cors_config=CORSConfig(allow_origins=list(settings.cors_origins)),
        lifespan=[_run_pools(engines, codecs, decoders), mcp.lifespan],
        request_max_body_size=settings.limits.json_bytes,
        openapi_config=None,
        logging_config=None,
    )


def create_library(settings: Settings, catalog: Catalog, threads: Executor) -> VoiceLibrary:
    """The stored voices.

    Raises:
        StoreUnavailable: they cannot be kept where the settings say.
    """
    place = settings.voices.place or default_place(os.environ)
    kept = (place, default_cache(os.environ), settings.voices.limits)
    return VoiceLibrary(open_voices(*kept), open_consents(*kept), catalog, threads)


def create_pools(settings: Settings) -> Engines:
    """A pool for each engine that the settings run; none is started yet."""

    devices = Devices(settings.pool.device_budget_bytes)

    def pools(task: Task) -> dict[str, EnginePool]:
        return {
            name: EnginePool(
                _worker_configs(name, engine), settings.pool, settings.log_level, devices
            )
            for name, engine in settings.running.items()
            if task_of(name, engine) == task
        }

    return Engines(pools("speech"), pools("transcription"))


def pools_of(engines: Engines) -> list[EnginePool]:
    """Those that are pools."""
    return [engine for engine in engines.all().values() if isinstance(engine, EnginePool)]


def _worker_configs(name: str, engine: EngineSettings) -> list[WorkerConfig]:
    features_dir = str(default_cache(os.environ) / "features")
    return [
        WorkerConfig(engine=name, device=device, options=engine.options, features_dir=features_dir)
        for device in devices_of(name, engine)
    ]


def _provide(value: object) -> Provide:
    return Provide(lambda: value, use_cache=True, sync_to_thread=False)


def _run_pools(
    engines: Engines, codecs: ThreadPoolExecutor, decoders: Decoders
) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    pools = pools_of(engines)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None, None]:
        for pool in pools:
            pool.start()
        decoders.start()
        try:
            yield
        finally:
            for pool in pools:
                await pool.stop()
            await decoders.stop()
            codecs.shutdown(wait=False, cancel_futures=True)

    return lifespan
