"""`rhapsode serve | mcp | speak | transcribe | voices | models | keys | doctor | bench`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from engine.errors import EngineError
from server.audio.errors import DecodeError
from server.bench.measure import BenchError
from server.bench_cli import add_bench_commands
from server.errors import ApiError
from server.keys_cli import add_key_commands
from server.log import log_to_stderr
from server.settings import Settings, SettingsError, load_settings
from server.voice_cli import add_voice_commands, list_all
from voices.errors import VoiceError

Command = Callable[[Settings, argparse.Namespace], int]

_FOR_A_PERSON = (
    SettingsError, ApiError, EngineError, VoiceError, DecodeError, BenchError, OSError
)  # fmt: skip
"""Errors whose message says all that there is to say."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command; its exit status."""
    args = _parser().parse_args(argv)
    run: Command = args.run
    try:
        settings = load_settings(args.config, os.environ, _overrides(args))
        return run(settings, args)
    except _FOR_A_PERSON as exc:
        print(f"rhapsode: {exc}", file=sys.stderr)
        return 1


def serve(settings: Settings, _: argparse.Namespace) -> int:
    """Run the server until SIGTERM or SIGINT, and let streams finish."""
    from server.serving import run_server

    log_to_stderr(settings.log_level, settings.log_format)
    run_server(settings)
    return 0


def serve_mcp(settings: Settings, args: argparse.Namespace) -> int:
    """Offer tools to an MCP client over standard input and output; needs no server."""
    from server.mcp.endpoint import HOW_TO_INSTALL, is_installed

    if not is_installed():
        raise SettingsError(HOW_TO_INSTALL)
    from server.mcp.stdio import serve_stdio

    log_to_stderr(settings.log_level, settings.log_format)
    # A thread that waits for standard input would outlast an orderly end. Workers end when this
    # process does.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    folders = tuple(args.folder) or settings.mcp.folders
    asyncio.run(serve_stdio(replace(settings, mcp=replace(settings.mcp, folders=folders))))
    return 0


def speak(settings: Settings, args: argparse.Namespace) -> int:
    """Speak to a file, or to standard output."""
    from server.offline import speak_to

    log_to_stderr("WARNING")
    text = sys.stdin.read() if args.text == "-" else args.text
    if args.output == "-":
        asyncio.run(speak_to(sys.stdout.buffer, settings, text, _speech_options(args, "wav")))
        return 0
    path = Path(args.output)
    options = _speech_options(args, path.suffix.removeprefix(".").lower() or "mp3")
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            asyncio.run(speak_to(file, settings, text, options))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return 0


def transcribe(settings: Settings, args: argparse.Namespace) -> int:
    """Write down what is said in files."""
    from server.batch import transcribe_files

    log_to_stderr("WARNING")
    fields = {key: getattr(args, key) for key in ("model", "language", "prompt")}
    fields["response_format"] = args.format
    return asyncio.run(transcribe_files(args.file, settings, fields, args.output_dir))


def list_models(settings: Settings, _: argparse.Namespace) -> int:
    """Model names, and the engine that each means."""
    from server.offline import loaded_catalog

    log_to_stderr("WARNING")
    for model in asyncio.run(loaded_catalog(settings)).models():
        print(f"{model.id:28} {model.engine:16} {model.task:14} {model.description}")
    return 0


def pull_model(_: Settings, args: argparse.Namespace) -> int:
    """Fetch a model onto this machine."""
    from server.batch import pull

    pull(args.name)
    return 0


def examine(settings: Settings, _: argparse.Namespace) -> int:
    """What is installed, what each engine can do here, and what to do about what is missing."""
    from server.doctor import report

    log_to_stderr("ERROR")
    lines, is_well = asyncio.run(report(settings))
    print("\n".join(lines))
    return 0 if is_well else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rhapsode", description="An OpenAI-compatible speech server."
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, metavar="FILE", help="settings, as TOML")
    common.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="limits.input_chars=8192"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Command) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[common], help=run.__doc__, description=run.__doc__)
        sub.set_defaults(run=run)
        return sub

    server = add("serve", serve)
    server.add_argument("--host")
    server.add_argument("--port")
    server.add_argument("--log-level")
    tools = add("mcp", serve_mcp)
    tools.add_argument(
        "--folder", action="append", default=[], help="tools may read and write files in it"
    )
    speech = add("speak", speak)
    speech.add_argument("text", help="what to say; - reads it from standard input")
    speech.add_argument("-o", "--output", required=True, help="out.mp3, .wav, ...; - for stdout")
    speech.add_argument("--voice", default="alloy")
    speech.add_argument("--model", default="tts-1")
    speech.add_argument("--format", help="mp3 opus aac flac wav pcm; by the file's name if absent")
    speech.add_argument("--speed", type=float)
    speech.add_argument("--language")
    speech.add_argument("--seed", type=int)
    voices = add("voices", list_all)
    add_voice_commands(voices.add_subparsers(metavar="list | add | show | ..."))
    listening = add("transcribe", transcribe)
    listening.add_argument("file", nargs="+", type=Path)
    listening.add_argument("--format", default="text", help="text json srt vtt verbose_json")
    listening.add_argument("--model", default="whisper-1")
    listening.add_argument("--language")
    listening.add_argument("--prompt", help="text before the recording's, in the style wanted")
    listening.add_argument(
        "-o", "--output-dir", type=Path, help="write FILE.txt, .srt, ... here instead of printing"
    )
    models = add("models", list_models)
    actions = models.add_subparsers(metavar="pull NAME")
    puller = actions.add_parser("pull", help=pull_model.__doc__, description=pull_model.__doc__)
    puller.add_argument("name", help="base, large-v3-turbo, ..., or a repository on the hub")
    puller.set_defaults(run=pull_model)
    keys = commands.add_parser("keys", parents=[common], help="API keys")
    add_key_commands(keys.add_subparsers(required=True, metavar="add NAME"))
    add("doctor", examine)
    bench = commands.add_parser("bench", parents=[common], help="measure this machine")
    add_bench_commands(bench.add_subparsers(required=True, metavar="glm | quality"))
    return parser


def _overrides(args: argparse.Namespace) -> list[tuple[str, str]]:
    pairs = []
    for item in args.set:
        key, separator, value = item.partition("=")
        if not separator:
            raise SettingsError(f"bad setting: --set {item}: write KEY=VALUE")
        pairs.append((key.strip(), value.strip()))
    flags = ((key, getattr(args, key, None)) for key in ("host", "port", "log_level"))
    return [*pairs, *((key, value) for key, value in flags if value is not None)]


def _speech_options(args: argparse.Namespace, response_format: str) -> dict[str, object]:
    """The fields of a speech request, but for its text."""
    fields = {key: getattr(args, key) for key in ("model", "voice", "speed", "language", "seed")}
    return {**fields, "response_format": args.format or response_format}


if __name__ == "__main__":
    sys.exit(main())
