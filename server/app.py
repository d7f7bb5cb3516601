"""Wiring, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.di import Provide

from engine.config import WorkerConfig
from engine.protocol import SpeechEngine
from engine.runtime.pool import EnginePool
from server.auth import key_guard
from server.catalog import Catalog
from server.context import stamp_headers
from server.errors import handle_error
from server.routes.catalog import get_model, list_audio_models, list_models, list_voices
from server.routes.health import get_about, get_health, get_ready
from server.routes.speech import create_speech
from server.settings import EngineSettings, Settings


def create_app(settings: Settings, engines: Mapping[str, SpeechEngine]) -> Litestar:
    """The ASGI app.

    Args:
        settings: Checked.
        engines: By name. An EnginePool lives as long as the app; others are the caller's to run.
    """
    catalog = Catalog(settings, engines)
    encoders = ThreadPoolExecutor(settings.encoder_threads, thread_name_prefix="encode")
    return Litestar(
        route_handlers=[
            create_speech,
            list_models,
            get_model,
            list_audio_models,
            list_voices,
            get_health,
            get_ready,
            get_about,
        ],
        dependencies={
            "settings": _provide(settings),
            "catalog": _provide(catalog),
            "encoders": _provide(encoders),
        },
        guards=[key_guard(settings)],
        before_send=[stamp_headers],
        exception_handlers={Exception: handle_error},
        cors_config=CORSConfig(allow_origins=list(settings.cors_origins)),
        lifespan=[_run_pools(engines, encoders)],
        request_max_body_size=settings.limits.json_bytes,
        openapi_config=None,
        logging_config=None,
    )


def create_pools(settings: Settings) -> dict[str, EnginePool]:
    """A pool for each engine that the settings run; none is started yet."""
    return {
        name: EnginePool(_worker_configs(name, engine), settings.pool, settings.log_level)
        for name, engine in settings.running.items()
    }


def _worker_configs(name: str, engine: EngineSettings) -> list[WorkerConfig]:
    return [
        WorkerConfig(engine=name, device=device, options=engine.options)
        for device in engine.devices
    ]


def _provide(value: object) -> Provide:
    return Provide(lambda: value, use_cache=True, sync_to_thread=False)


def _run_pools(
    engines: Mapping[str, SpeechEngine], encoders: ThreadPoolExecutor
) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    pools = [engine for engine in engines.values() if isinstance(engine, EnginePool)]

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None, None]:
        for pool in pools:
            pool.start()
        try:
            yield
        finally:
            for pool in pools:
                await pool.stop()
            encoders.shutdown(wait=False, cancel_futures=True)

    return lifespan
