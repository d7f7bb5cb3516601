"""Is it up, can it work: /health and /ready."""

from __future__ import annotations

from typing import Literal

from litestar import Response, route
from litestar.di import NamedDependency
from msgspec import Struct

from engine.types import EngineStatus
from server.auth import OPEN
from server.catalog import Catalog
from server.routes import GET


class Drain:
    """Whether the server is about to end, and wants no more requests."""

    is_on = False


class Health(Struct, frozen=True):
    status: Literal["healthy"] = "healthy"


class Readiness(Struct, frozen=True):
    status: Literal["ready", "not_ready"]
    engines: dict[str, EngineStatus]


@route("/health", http_method=GET, opt=OPEN)
async def get_health() -> Health:
    """The process answers."""
    return Health()


@route("/ready", http_method=GET, opt=OPEN)
async def get_ready(
    catalog: NamedDependency[Catalog], drain: NamedDependency[Drain]
) -> Response[Readiness]:
    """Every engine that this machine has a model for takes requests, asleep or not; else 503, as
    from a server that is about to end."""
    engines = {name: engine.status for name, engine in catalog.engines.all().items()}
    can_work = all(status.state in ("ready", "absent") for status in engines.values())
    is_ready = can_work and not drain.is_on
    body = Readiness("ready" if is_ready else "not_ready", engines)
    return Response(body, status_code=200 if is_ready else 503)
