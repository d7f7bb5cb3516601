"""Voices: OpenAI's upload and delete, the list that clients expect, and what lies between."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import Request, Response, delete, get, patch, post, route
from litestar.datastructures import FormMultiDict
from litestar.di import NamedDependency
from litestar.params import FromPath

from server.auth import CATALOG, owner_of
from server.catalog import Catalog
from server.context import context_of
from server.enrollment import Enroller
from server.errors import ApiError
from server.forms import file_of, flag_of, read_form, required_text_of, sound_of, text_of
from server.library import VoiceLibrary
from server.routes import GET
from server.schemas.body import read_json
from server.schemas.voices import NewVoice, Voice, VoiceDeleted, VoiceList
from server.settings import Settings
from voices.profile import VoiceDraft, VoiceEdit, VoiceProfile

_VOICE = ["/v1/audio/voices/{voice:str}", "/v1/audio/voices/import"]
"""The second would else be `import_voice` with a wrong method, and a voice may have that name."""
_FIELDS = {field for field in Voice.__struct_fields__ if field not in ("object", "type")}


@route("/v1/audio/voices", http_method=GET, opt=CATALOG)
async def list_voices(
    request: Request[Any, Any, Any],
    catalog: NamedDependency[Catalog],
    library: NamedDependency[VoiceLibrary],
) -> VoiceList:
    """Names of the settings' table, stored voices, then those that the engine brings."""
    stored = await library.run(partial(library.voices.voices, owner_of(request)))
    uploaded = tuple(as_voice(voice) for voice in stored)
    own = catalog.voices()
    named = tuple(voice for voice in own if voice.type == "builtin")
    every = (*named, *uploaded, *own[len(named) :])
    return VoiceList(voices=every, data=every, uploaded_voices=uploaded)


@post("/v1/audio/voices", status_code=200)
async def create_voice(
    request: Request[Any, Any, Any],
    settings: NamedDependency[Settings],
    library: NamedDependency[VoiceLibrary],
    enroller: NamedDependency[Enroller],
) -> NewVoice:
    """Keep a recording as a voice. Without a text for it, it is transcribed."""
    form = await read_form(request)
    if text_of(form, "type") == "prompt":
        message = "type: voices are made from recordings here, not from descriptions"
        raise ApiError(400, message, param="type", code="unsupported_value")
    owner = owner_of(request)
    draft = _draft(form, owner)
    if settings.voices.require_consent:
        await _check_consent(library, draft.consent_id, owner)
    voice = await enroller.enrol(
        sound_of(form, "audio_sample"),
        draft,
        may_transcribe=not flag_of(form, "skip_whisper"),
        context=context_of(request.scope),
    )
    return NewVoice(type="audio_sample", **_shown(voice))


@get(_VOICE)
async def get_voice(
    request: Request[Any, Any, Any],
    library: NamedDependency[VoiceLibrary],
    voice: FromPath[str] = "import",
) -> Voice:
    return as_voice(await _visible(request, voice, library))


@get("/v1/audio/voices/{voice:str}/audio")
async def get_voice_audio(
    request: Request[Any, Any, Any],
    voice: FromPath[str],
    library: NamedDependency[VoiceLibrary],
) -> Response[bytes]:
    """The recording as it is kept."""
    profile = await _visible(request, voice, library)
    return Response(
        await library.run(partial(library.voices.audio, profile)), media_type="audio/flac"
    )


@patch(_VOICE)
async def change_voice(
    request: Request[Any, Any, Any],
    library: NamedDependency[VoiceLibrary],
    voice: FromPath[str] = "import",
) -> Voice:
    """Rename a voice, or correct what is said in it."""
    edit = await read_json(VoiceEdit, request)
    update = partial(library.voices.update, voice, owner_of(request), edit)
    return as_voice(await library.run(update))


@delete(_VOICE, status_code=200)
async def delete_voice(
    request: Request[Any, Any, Any],
    library: NamedDependency[VoiceLibrary],
    voice: FromPath[str] = "import",
) -> VoiceDeleted:
    """By id or name. Who speaks with it now finishes."""
    removed = await library.run(partial(library.voices.remove, voice, owner_of(request)))
    return VoiceDeleted(removed.id)


@get("/v1/audio/voices/{voice:str}/export")
async def export_voice(
    request: Request[Any, Any, Any],
    voice: FromPath[str],
    library: NamedDependency[VoiceLibrary],
) -> Response[bytes]:
    """The voice as one file, for `import` here or elsewhere."""
    profile = await _visible(request, voice, library)
    archive = await library.run(partial(library.voices.export, profile, {}))
    disposition = f'attachment; filename="{profile.id}.zip"'
    return Response(
        archive, media_type="application/zip", headers={"content-disposition": disposition}
    )


@post("/v1/audio/voices/import", status_code=200)
async def import_voice(
    request: Request[Any, Any, Any],
    library: NamedDependency[VoiceLibrary],
    enroller: NamedDependency[Enroller],
) -> NewVoice:
    """Keep an exported voice, under a new id."""
    form = await read_form(request)
    archive = await file_of(form, "file").read()
    keep = partial(library.voices.import_, archive, owner_of(request), text_of(form, "name"))
    voice = (await library.run(keep)).voice
    enroller.warm(voice, context_of(request.scope).request_id)
    return NewVoice(type="audio_sample", **_shown(voice))


def as_voice(profile: VoiceProfile) -> Voice:
    """A stored voice as the API shows it."""
    return Voice(type="audio_sample", **_shown(profile))


async def _visible(
    request: Request[Any, Any, Any], voice: str, library: VoiceLibrary
) -> VoiceProfile:
    """The voice with this id or name, if the caller may see it."""
    return await library.run(partial(library.voices.get, voice, owner_of(request)))


def _shown(profile: VoiceProfile) -> dict[str, Any]:
    return {field: getattr(profile, field) for field in _FIELDS}


def _draft(form: FormMultiDict, owner: str | None) -> VoiceDraft:
    """`ref_text` and `speaker_description` are what other servers' clients send."""
    return VoiceDraft(
        name=required_text_of(form, "name"),
        owner=owner,
        language=text_of(form, "language"),
        prompt_text=text_of(form, "prompt_text") or text_of(form, "ref_text"),
        consent_id=text_of(form, "consent"),
        description=text_of(form, "description") or text_of(form, "speaker_description"),
    )


async def _check_consent(library: VoiceLibrary, consent: str | None, owner: str | None) -> None:
    """Raises ConsentNotFound, naming the field."""
    await library.run(partial(library.consents.get, consent or "", owner))
