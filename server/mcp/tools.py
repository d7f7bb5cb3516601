"""What the tools do: the same path as an HTTP request, without HTTP. Event loop only."""

from __future__ import annotations

from concurrent.futures import Executor
from contextlib import aclosing
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import msgspec

from engine.errors import UnknownVoice
from server.audio.formats import FORMATS, ResponseFormat
from server.catalog import Catalog
from server.decoders import Decoders
from server.enrollment import Enroller
from server.errors import ApiError
from server.library import VoiceLibrary
from server.mcp.arguments import AddVoice, ListVoices, Speak, Status, Transcribe
from server.mcp.calls import Answer, Call, metered, told_heard, told_spoken
from server.mcp.engines import engine_reports
from server.mcp.folders import Folders, write_whole
from server.meters import TranscriptMeter
from server.recents import Asked, Ledger
from server.recording import Recording
from server.routes.voices import as_voice
from server.schemas.speech import SpeechRequest
from server.schemas.transcription import TranscriptionRequest
from server.schemas.voices import Voice
from server.settings import Settings
from server.speaking import Asker, Speaker, begin_speech
from server.speech import encode_clip
from server.transcription import collect, engine_options, whole
from server.turns import Turns
from voices.profile import VoiceDraft


class Tools:
    """The tools, on the objects that the HTTP routes use.

    Args:
        settings: Checked.
        catalog: Of engines that run.
        library: Of stored voices; its threads read and write files.
        enroller: Takes voices in.
        ledger: Where requests are booked.
        codecs: Where audio is encoded.
        decoders: Where recordings are decoded.
        turns: Where requests wait for an engine.
    Raises:
        SettingsError: an allowed folder is not there.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        library: VoiceLibrary,
        enroller: Enroller,
        ledger: Ledger,
        codecs: Executor,
        decoders: Decoders,
        turns: Turns,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._library = library
        self._enroller = enroller
        self._ledger = ledger
        self._codecs = codecs
        self._decoders = decoders
        self._turns = turns
        self._folders = Folders(settings.mcp.folders)

    async def speak(self, args: Speak, call: Call) -> Answer:
        """Audio, or the file that it was written to.

        Raises:
            ApiError, EngineError, VoiceError, OSError: it cannot be spoken, or not written.
        """
        target, response_format = self._target(args)
        body = SpeechRequest(
            model=args.model,
            input=args.text,
            voice=args.voice,
            instructions=args.instructions,
            response_format=response_format,
            speed=args.speed,
            language=args.language,
            seed=args.seed,
        )
        engine = self._catalog.speech_engine(body.model)
        info = await engine.ready()
        voice = await self._library.resolve(body.voice_name, call.owner, engine.name, info)
        source = partial(self._library.prompt_of, voice.profile) if voice.profile else None
        speech = begin_speech(
            body,
            Speaker(engine, info, voice, source, body.voice_name),
            Asker(call.context, call.owner, {"client": "mcp"}),
            self._settings.limits.input_chars,
            self._ledger,
            self._turns,
        )
        plan, meter = speech.plan, speech.meter
        with metered(meter):
            try:
                clip = await encode_clip(plan, told_spoken(speech.chunks, plan, call), self._codecs)
            except UnknownVoice as exc:
                raise self._catalog.unknown_voice(engine.name, body.voice_name) from exc
            meter.sent(clip)
        said = f"{meter.played_s:.1f} s of speech by {engine.name}"
        if target is None:
            return Answer(text=said, audio=clip, media_type=plan.media_type)
        await self._library.run(partial(write_whole, target, clip, overwrite=args.overwrite))
        return Answer(text=f"{said}, written to {target}")

    async def transcribe(self, args: Transcribe, call: Call) -> Answer:
        """The transcript, in the format asked for.

        Raises:
            ApiError, EngineError, DecodeError, OSError: it cannot be transcribed.
        """
        body = TranscriptionRequest(
            model=args.model,
            language=args.language,
            prompt=args.prompt,
            response_format=args.format,
        )
        options = engine_options(body, "transcribe")
        with self._opened(args.path, args.audio) as file:
            engine = self._catalog.transcription_engine(body.model)
            info = await engine.ready()
            limits = self._settings.limits.decode
            recording = Recording(file, info.sample_rate, limits, self._decoders)
            await recording.open()
            asked = Asked(
                context=call.context,
                task="transcription",
                owner=call.owner,
                model=body.model,
                engine=info.name,
                format=args.format,
                facts={"task": "transcribe", "client": "mcp"},
            )
            meter = TranscriptMeter(self._ledger, asked, lambda: recording.duration_s)
            request_id = call.context.request_id
            heard = engine.transcribe(recording.blocks(), options, request_id)
            parts = meter.watch(self._turns.taken(engine.name, call.context, heard))
            async with aclosing(recording):
                with metered(meter):
                    transcript = await collect("transcribe", recording, told_heard(parts, call))
        note = "" if info.is_accurate else f"{info.name} gets many words wrong."
        return Answer(text=whole(transcript, body)[0].decode(), note=note)

    async def list_voices(self, args: ListVoices, call: Call) -> Answer:
        """JSON: a list of voices.

        Raises:
            VoiceError, WorkerUnavailable: they cannot be listed.
        """
        await self._catalog.preferred_speaker().ready()
        kept = await self._library.run(partial(self._library.voices.voices, call.owner))
        voices = [*map(as_voice, kept), *self._catalog.voices()]
        shown = [voice for voice in voices if _fits(voice, args.language)]
        return _json(
            [
                {"voice": each.id if each.type == "engine" else each.name, "id": each.id,
                 "type": each.type, "language": each.language}
                for each in shown
            ]
        )  # fmt: skip

    async def add_voice(self, args: AddVoice, call: Call) -> Answer:
        """JSON: the voice, with what is known of its recording.

        Raises:
            ApiError, EngineError, VoiceError, OSError: it is not kept.
        """
        if self._settings.voices.require_consent:
            consents = self._library.consents
            await self._library.run(partial(consents.get, args.consent or "", call.owner))
        draft = VoiceDraft(
            name=args.name,
            owner=call.owner,
            language=args.language,
            prompt_text=args.text or None,
            consent_id=args.consent,
        )
        with self._opened(args.path, args.audio) as file:
            voice = await self._enroller.enrol(
                file, draft, may_transcribe=True, context=call.context
            )
        return _json(as_voice(voice))

    async def status(self, _: Status, __: Call) -> Answer:
        """JSON: a list of engines."""
        return _json(await engine_reports(self._catalog.engines))

    def _target(self, args: Speak) -> tuple[Path | None, ResponseFormat]:
        """Where to write, and what. A file that is no audio is never replaced: see its ending."""
        if args.path is None:
            return None, args.format or "mp3"
        ending = Path(args.path).suffix.removeprefix(".").lower()
        named = next((each for each in FORMATS if each == ending), None)
        if named is None or args.format not in (None, named):
            message = f"path: must end in .{args.format or ', .'.join(FORMATS)}"
            raise ApiError(400, message, param="path", code="invalid_path")
        return self._folders.to_write(args.path, overwrite=args.overwrite), named

    def _opened(self, path: str | None, audio: bytes | None) -> BinaryIO:
        """The recording."""
        if path is not None and audio is None:
            return self._folders.to_read(path).open("rb")
        if path is not None or audio is None:
            raise ApiError(400, "give either path or audio", param="path", code="invalid_value")
        if len(audio) > self._settings.limits.upload_bytes:
            message = f"audio: larger than {self._settings.limits.upload_bytes} bytes"
            raise ApiError(413, message, param="audio", code="request_too_large")
        return BytesIO(audio)


def _fits(voice: Voice, language: str | None) -> bool:
    """Of a language; of any, without the hundred that an engine brings."""
    if language is None:
        return voice.type != "engine"
    spoken = (voice.language or "").lower()
    return spoken == language.lower() or spoken.startswith(f"{language.lower()}-")


def _json(value: object) -> Answer:
    return Answer(text=msgspec.json.encode(value).decode())
