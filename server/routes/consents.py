"""Consents: /v1/audio/voice_consents."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import Request, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from server.auth import owner_of
from server.forms import file_of, number_of, read_form, required_text_of
from server.library import VoiceLibrary
from server.schemas.body import read_json
from server.schemas.voices import Consent, ConsentChange, ConsentDeleted, ConsentList
from voices.consent import VoiceConsent

_PATH = "/v1/audio/voice_consents"
_PAGE = 20


@post(_PATH, status_code=200)
async def create_consent(
    request: Request[Any, Any, Any], library: NamedDependency[VoiceLibrary]
) -> Consent:
    form = await read_form(request)
    recording = file_of(form, "recording")
    add = partial(
        library.consents.add,
        required_text_of(form, "name"),
        required_text_of(form, "language"),
        await recording.read(),
        recording.content_type,
        owner_of(request),
    )
    return _shown(await library.run(add))


@get(_PATH)
async def list_consents(
    request: Request[Any, Any, Any], library: NamedDependency[VoiceLibrary]
) -> ConsentList:
    """A page, newest first; the next begins after this one's `last_id`."""
    query = request.query_params
    limit = number_of(query.get("limit"), "limit", _PAGE)
    page = await library.run(
        partial(library.consents.page, owner_of(request), limit, query.get("after") or None)
    )
    data = tuple(_shown(consent) for consent in page.data)
    return ConsentList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=page.has_more,
    )


@get(_PATH + "/{consent:str}")
async def get_consent(
    request: Request[Any, Any, Any],
    consent: FromPath[str],
    library: NamedDependency[VoiceLibrary],
) -> Consent:
    return _shown(await library.run(partial(library.consents.get, consent, owner_of(request))))


@post(_PATH + "/{consent:str}", status_code=200)
async def rename_consent(
    request: Request[Any, Any, Any],
    consent: FromPath[str],
    library: NamedDependency[VoiceLibrary],
) -> Consent:
    name = (await read_json(ConsentChange, request)).name
    rename = partial(library.consents.rename, consent, owner_of(request), name)
    return _shown(await library.run(rename))


@delete(_PATH + "/{consent:str}", status_code=200)
async def delete_consent(
    request: Request[Any, Any, Any],
    consent: FromPath[str],
    library: NamedDependency[VoiceLibrary],
) -> ConsentDeleted:
    removed = await library.run(partial(library.consents.remove, consent, owner_of(request)))
    return ConsentDeleted(removed.id)


def _shown(consent: VoiceConsent) -> Consent:
    return Consent(
        id=consent.id,
        name=consent.name,
        language=consent.language,
        created_at=consent.created_at,
    )
