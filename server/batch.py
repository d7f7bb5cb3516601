"""Work of the command line that takes a while, with a bar that says how far it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from engine import registry
from engine.errors import EngineError
from engine.types import EngineInfo
from server.audio.errors import DecodeError
from server.decoders import Decoders
from server.errors import ApiError
from server.offline import running_catalog, transcribe_file
from server.schemas.body import refusal
from server.schemas.transcription import TranscriptionRequest
from server.settings import Settings

_ENDINGS = {"text": "txt", "json": "json", "verbose_json": "json", "srt": "srt", "vtt": "vtt"}


async def transcribe_files(
    paths: Sequence[Path],
    settings: Settings,
    fields: dict[str, str | None],
    output_dir: Path | None,
) -> int:
    """Transcribe files one after the other; one that fails does not stop the others.

    Args:
        paths: Audio or video.
        settings: Checked.
        fields: Of a TranscriptionRequest.
        output_dir: Where transcripts go; None prints them.
    Returns:
        Exit status: 1 if any file failed.
    Raises:
        ApiError: the fields are bad.
    """
    try:
        body = msgspec.convert(fields, TranscriptionRequest)
    except msgspec.ValidationError as exc:
        raise refusal(exc) from exc
    failures = 0
    with _bar() as bar:
        async with (
            running_catalog(settings, "transcription") as catalog,
            Decoders(1) as decoders,
        ):
            for path in paths:
                task = bar.add_task(path.name, total=None)

                def progress(done_s: float, total_s: float | None, task: TaskID = task) -> None:
                    bar.update(task, completed=done_s, total=total_s)

                try:
                    text, info = await transcribe_file(
                        path, catalog, decoders, settings, body, progress
                    )
                except (ApiError, EngineError, DecodeError, OSError) as exc:
                    failures += 1
                    bar.console.print(f"rhapsode: {path}: {exc}", style="red", soft_wrap=True)
                    continue
                bar.update(task, completed=1, total=1)
                _warn_of(info, bar.console)
                _write(text, path, body.response_format or "text", output_dir)
    return 1 if failures else 0


def pull(name: str) -> None:
    """Fetch a model.

    Raises:
        LoadFailed: no such model, or it could not be fetched.
    """
    console = Console(stderr=True)
    columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), BarColumn(), *columns, console=console) as bar:
        task = bar.add_task(name, total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        folder = registry.pull(name, progress)
    console.print(f"{name} is in {folder}", soft_wrap=True)


def _write(text: str, path: Path, response_format: str, output_dir: Path | None) -> None:
    if output_dir is None:
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        return
    output_dir.mkdir(parents=True, exist_ok=True)
    (output_dir / f"{path.stem}.{_ENDINGS[response_format]}").write_text(text, encoding="utf-8")


def _warn_of(info: EngineInfo, console: Console) -> None:
    if not info.is_accurate:
        console.print(
            f"{info.name} gets many words wrong; `rhapsode models pull base` fetches a better one",
            style="yellow",
            soft_wrap=True,
        )


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
