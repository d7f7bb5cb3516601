"""`rhapsode bench quality`: is it understood, and does it sound like the person?

The server speaks each pair's text, and its own recogniser writes down what it hears; CAM++ compares
the speaker with the voice's recording. Both need weights that are on this machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from server.bench.host import Host, own_server
from server.bench.measure import BenchError, Figures, call

_READY_S = 600.0
_BOUNDARY = "rhapsode-bench"
_RECOGNISER = "whisper-1"


class Pair(Struct, frozen=True, forbid_unknown_fields=True):
    """What to speak, and as whom."""

    voice: str
    """Its name."""
    text: str
    recording: str | None = None
    """WAV or FLAC of the voice, to compare with; None: no comparison."""


def read_pairs(path: Path) -> list[Pair]:
    """A JSON list of pairs.

    Raises:
        BenchError: it is none, or empty.
    """
    try:
        pairs = msgspec.json.decode(path.read_bytes(), type=list[Pair])
    except msgspec.DecodeError as exc:
        raise BenchError(f"{path}: {exc}") from exc
    if not pairs:
        raise BenchError(f"{path} has no pairs")
    return pairs


def run(pairs: list[Pair], model: str | None, voices: str | None) -> Figures:
    """Speak, listen and compare, on a server of its own.

    Args:
        pairs: One at least.
        model: Folder of a checkpoint; None: the one that was pulled.
        voices: The place of voices; None: only those that are built in.
    Raises:
        BenchError: weights are not here, or the server refused.
    """
    options = {} if model is None else {"model": model}
    settings: dict[str, object] = {
        "speech_engines": ["glm-tts"],
        "pool": {"wait_s": _READY_S},
        "engines": {"glm-tts": {"options": options}},
    }
    if voices is not None:
        settings["voices"] = {"place": voices}
    with own_server(settings, _READY_S) as host, tempfile.TemporaryDirectory() as folder:
        require_weights(host)
        clips = [Path(folder) / f"{index}.wav" for index in range(len(pairs))]
        rows = [judge(host, pair, clip) for pair, clip in zip(pairs, clips, strict=True)]
        compared = [
            (clip, pair.recording)
            for clip, pair in zip(clips, pairs, strict=True)
            if pair.recording is not None
        ]
        alike = iter(_similarities(compared, model))
    for row, pair in zip(rows, pairs, strict=True):
        row["similarity"] = None if pair.recording is None else round(next(alike), 4)
    return _summary(rows)


def require_weights(host: Host) -> None:
    """Refuse to judge a made-up model, or with a recogniser that mishears.

    Raises:
        BenchError: and what to do about it.
    """
    models = {each["id"]: each for each in _json(call(host.address, "GET", "/v1/models"))["data"]}
    speaker, listener = models["glm-tts"], models[_RECOGNISER]
    if speaker["state"] == "absent":
        raise BenchError(f"quality needs published weights: {speaker['description']}")
    if not listener["accurate"]:
        raise BenchError(
            "quality needs a recogniser that can be trusted: run `rhapsode models pull "
            "large-v3-turbo`"
        )


def judge(host: Host, pair: Pair, clip: Path) -> Figures:
    """Speak a pair's text into a file, and have it written down."""
    fields = {"model": "glm-tts", "voice": pair.voice, "input": pair.text}
    body = json.dumps({**fields, "response_format": "wav", "seed": 0}).encode()
    status, sound = call(host.address, "POST", "/v1/audio/speech", body, "application/json")
    if status != 200:
        raise BenchError(f"voice {pair.voice}: {sound.decode(errors='replace')}")
    clip.write_bytes(sound)
    media_type = f"multipart/form-data; boundary={_BOUNDARY}"
    heard = _json(call(host.address, "POST", "/v1/audio/transcriptions", _form(sound), media_type))[
        "text"
    ]
    cer = character_error_rate(pair.text, heard)
    return {"voice": pair.voice, "text": pair.text, "heard": heard, "cer": round(cer, 4)}


def character_error_rate(wanted: str, heard: str) -> float:
    """Letters and digits to change, add or take away, of those wanted; case does not count."""
    a, b = _letters(wanted), _letters(heard)
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (letter != other))
    return row[-1] / max(1, len(a))


def _letters(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(char for char in folded if char.isalnum())


def _similarities(pairs: list[tuple[Path, str]], model: str | None) -> list[float]:
    """In a process of its own: no model is loaded into ours."""
    question = {"model": model, "pairs": [[str(clip), file] for clip, file in pairs]}
    done = subprocess.run(
        [sys.executable, "-m", "engine.glm_tts.similarity"],
        input=json.dumps(question), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise BenchError(f"speakers cannot be compared: {done.stderr.strip()[-500:]}")
    answer: list[float] = json.loads(done.stdout)
    return answer


def _summary(rows: list[Figures]) -> Figures:
    def mean(name: str) -> float | None:
        values = [float(str(row[name])) for row in rows if row[name] is not None]
        return round(sum(values) / len(values), 4) if values else None

    return {"cer": mean("cer"), "similarity": mean("similarity"), "pairs": rows}


def _form(sound: bytes) -> bytes:
    field = f"--{_BOUNDARY}\r\ncontent-disposition: form-data; name="
    head = f'{field}"model"\r\n\r\n{_RECOGNISER}\r\n{field}"file"; filename="a.wav"\r\n\r\n'
    return head.encode() + sound + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _json(answer: tuple[int, bytes]) -> dict[str, Any]:
    status, body = answer
    if status != 200:
        raise BenchError(f"the server answered {status}: {body.decode(errors='replace')}")
    decoded: dict[str, Any] = json.loads(body)
    return decoded
