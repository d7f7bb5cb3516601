"""GET /v1/requests: what the last requests cost."""

from __future__ import annotations

from typing import Any

from litestar import Request, route
from litestar.di import NamedDependency

from server.auth import owner_of
from server.recents import Ledger
from server.routes import GET
from server.schemas.requests import RequestList


@route("/v1/requests", http_method=GET)
async def list_requests(
    request: Request[Any, Any, Any], ledger: NamedDependency[Ledger]
) -> RequestList:
    """Those that have ended, newest first; with keys on, only those of the caller's key."""
    return RequestList(ledger.recent(owner_of(request)))
