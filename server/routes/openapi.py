"""GET /openapi.json: what this server offers, for programs that read such."""

from __future__ import annotations

from litestar import MediaType, Response, route
from litestar.di import NamedDependency

from server.auth import OPEN
from server.openapi import describe
from server.routes import GET
from server.settings import Settings


@route("/openapi.json", http_method=GET, opt=OPEN)
async def get_openapi(settings: NamedDependency[Settings]) -> Response[bytes]:
    """Open as the page is: it tells nothing of what is kept here."""
    document = describe(has_keys=settings.has_keys, open_catalog=settings.open_catalog)
    return Response(document, media_type=MediaType.JSON)
