"""`rhapsode voices list | add | show | rename | correct | remove | export | import`."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from server.app import create_library
from server.catalog import Catalog, Engines
from server.context import RequestContext
from server.decoders import Decoders
from server.enrollment import Enroller
from server.keys import Keyring
from server.library import VoiceLibrary
from server.log import log_to_stderr
from server.offline import loaded_catalog, running_catalog
from server.quotas import Quotas
from server.routes.voices import as_voice
from server.settings import Settings
from server.turns import Turns
from voices.profile import VoiceDraft, VoiceEdit, VoiceProfile

Command = Callable[[Settings, argparse.Namespace], int]


def add_voice_commands(commands: Any) -> None:
    """Put the sub-commands of `voices` on its parser's subparsers."""

    def command(name: str, run: Command, *arguments: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(
            name, help=run.__doc__, description=run.__doc__
        )
        parser.set_defaults(run=run)
        for argument in arguments:
            parser.add_argument(argument)
        return parser

    command("list", list_all)
    adding = command("add", add, "name")
    adding.add_argument("recording", type=Path)
    adding.add_argument("--text", help="what is said in it; transcribed if absent")
    adding.add_argument("--language")
    command("show", show, "voice")
    command("rename", rename, "voice", "name")
    command("correct", correct, "voice", "text")
    command("remove", remove, "voice")
    command("export", export, "voice").add_argument("file", type=Path)
    importing = command("import", import_)
    importing.add_argument("file", type=Path)
    importing.add_argument("--name", help="another than its own")


def list_all(settings: Settings, _: argparse.Namespace) -> int:
    """Names that speak, stored voices, and the voices that the engine brings."""
    log_to_stderr("WARNING")
    catalog = asyncio.run(loaded_catalog(settings, "speech"))
    for profile in _library(settings).voices.voices(None):
        print(f"{profile.id:32} {profile.language or '-':16} {profile.name}")
    for voice in catalog.voices():
        print(f"{voice.id:32} {voice.language or '-':16} {voice.name}")
    return 0


def add(settings: Settings, args: argparse.Namespace) -> int:
    """Keep a recording as a voice."""
    log_to_stderr("WARNING")
    draft = VoiceDraft(name=args.name, language=args.language, prompt_text=args.text)

    async def enrol() -> VoiceProfile:
        async with (
            running_catalog(settings, "transcription") as catalog,
            Decoders(1) as decoders,
        ):
            with ThreadPoolExecutor(1) as threads, args.recording.open("rb") as file:
                library = create_library(settings, catalog, threads)
                turns = Turns(settings, Quotas(Keyring(())))
                enroller = Enroller(library, catalog, decoders, turns)
                context = RequestContext("cli", time.perf_counter())
                return await enroller.enrol(file, draft, may_transcribe=True, context=context)

    return _show(asyncio.run(enrol()))


def show(settings: Settings, args: argparse.Namespace) -> int:
    """All that is known of a voice, as JSON."""
    return _show(_library(settings).voices.get(args.voice, None))


def rename(settings: Settings, args: argparse.Namespace) -> int:
    """Give a voice another name."""
    return _show(_library(settings).voices.update(args.voice, None, VoiceEdit(name=args.name)))


def correct(settings: Settings, args: argparse.Namespace) -> int:
    """Say what is really said in a voice's recording."""
    edit = VoiceEdit(prompt_text=args.text)
    return _show(_library(settings).voices.update(args.voice, None, edit))


def remove(settings: Settings, args: argparse.Namespace) -> int:
    """Delete a voice for good."""
    print(f"removed {_library(settings).voices.remove(args.voice, None).id}")
    return 0


def export(settings: Settings, args: argparse.Namespace) -> int:
    """Write a voice to one file."""
    voices = _library(settings).voices
    args.file.write_bytes(voices.export(voices.get(args.voice, None), {}))
    return 0


def import_(settings: Settings, args: argparse.Namespace) -> int:
    """Keep a voice that was exported here or elsewhere."""
    archive = args.file.read_bytes()
    return _show(_library(settings).voices.import_(archive, None, args.name).voice)


def _library(settings: Settings) -> VoiceLibrary:
    """For work on files alone: no engine runs, and no thread is needed."""
    catalog = Catalog(settings, Engines())
    return create_library(settings, catalog, ThreadPoolExecutor(1))


def _show(profile: VoiceProfile) -> int:
    print(msgspec.json.format(msgspec.json.encode(as_voice(profile)), indent=2).decode())
    return 0
