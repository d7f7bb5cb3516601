"""/api/voices: stored voices in the article's shape."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

from litestar import Request, Response, delete, post, route
from litestar.di import NamedDependency
from litestar.params import FromPath

from server.audio.encoder import encode_whole
from server.auth import owner_of
from server.context import context_of
from server.enrollment import Enroller
from server.forms import flag_of, read_form, required_text_of, sound_of, text_of
from server.library import VoiceLibrary
from server.routes import GET
from server.schemas.article import ArticleVoice, ArticleVoiceDeleted, ArticleVoices
from server.settings import Settings
from voices.profile import VoiceDraft, VoiceProfile

_NAMES = {"audio_sample": "audio", "prompt_text": "text"}
"""What /v1 calls a field -> what it is called here."""


@route("/voices", http_method=GET)
async def list_article_voices(
    request: Request[Any, Any, Any], library: NamedDependency[VoiceLibrary]
) -> ArticleVoices:
    """Those that people stored, oldest first."""
    voices = await library.run(partial(library.voices.voices, owner_of(request)))
    return ArticleVoices(tuple(map(_shown, voices)))


@post("/voices", status_code=200, opt={"names": _NAMES})
async def create_article_voice(
    request: Request[Any, Any, Any],
    settings: NamedDependency[Settings],
    library: NamedDependency[VoiceLibrary],
    enroller: NamedDependency[Enroller],
) -> ArticleVoice:
    """Keep a recording as a voice. Without a text for it, it is transcribed."""
    form = await read_form(request)
    owner, consent = owner_of(request), text_of(form, "consent")
    draft = VoiceDraft(
        name=required_text_of(form, "name"),
        owner=owner,
        prompt_text=text_of(form, "text"),
        consent_id=consent,
    )
    if settings.voices.require_consent:
        await library.run(partial(library.consents.get, consent or "", owner))
    voice = await enroller.enrol(
        sound_of(form, "audio"),
        draft,
        may_transcribe=not flag_of(form, "skip_whisper"),
        context=context_of(request.scope),
    )
    return _shown(voice)


@route("/voices/{voice:str}", http_method=GET)
async def get_article_voice(
    request: Request[Any, Any, Any], voice: FromPath[str], library: NamedDependency[VoiceLibrary]
) -> ArticleVoice:
    return _shown(await library.run(partial(library.voices.get, voice, owner_of(request))))


@route("/voices/{voice:str}/audio", http_method=GET)
async def get_article_voice_audio(
    request: Request[Any, Any, Any], voice: FromPath[str], library: NamedDependency[VoiceLibrary]
) -> Response[bytes]:
    """The recording as a wave file, which is what the article's clients save it as."""
    profile = await library.run(partial(library.voices.get, voice, owner_of(request)))

    def wav() -> bytes:
        return encode_whole("wav", *library.voices.samples(profile))

    return Response(await library.run(wav), media_type="audio/wav")


@delete("/voices/{voice:str}", status_code=200)
async def delete_article_voice(
    request: Request[Any, Any, Any], voice: FromPath[str], library: NamedDependency[VoiceLibrary]
) -> ArticleVoiceDeleted:
    removed = await library.run(partial(library.voices.remove, voice, owner_of(request)))
    return ArticleVoiceDeleted(removed.id)


def _shown(profile: VoiceProfile) -> ArticleVoice:
    return ArticleVoice(
        id=profile.id,
        name=profile.name,
        text=profile.prompt_text or "",
        audio_path=f"/api/voices/{profile.id}/audio",
        created_at=datetime.fromtimestamp(profile.created_at, UTC).isoformat(),
    )
