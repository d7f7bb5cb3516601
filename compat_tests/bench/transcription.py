"""How the server listens: `python -m compat_tests.bench.transcription --out FILE.json`.

Starts two servers of its own: one with the embedded engine, one with a Whisper of random weights,
whose work is next to nothing, so that what is left is the server's.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from compat_tests.audio import Clip, decode
from compat_tests.bench.machine import provenance
from compat_tests.bench.measure import cpu_s, memory_mib
from compat_tests.bench.run import Figures, own_server, report
from compat_tests.process import ServerProcess
from compat_tests.recordings import encode_mp3_frames, joined, silence
from compat_tests.texts import PARAGRAPH
from compat_tests.tiny_whisper import tiny_whisper
from compat_tests.wire import FORM_TYPE, TRANSCRIPTIONS, form

MINUTE_S = 60.0
TIMEOUT_S = 240.0
PAUSE_S = 0.7
"""Between sentences, as a reader makes it."""


class Heard(NamedTuple):
    """When an answer came, in seconds since its request was sent."""

    first_delta_s: float | None
    """None for an answer that is not streamed."""
    total_s: float


def transcribe(base_url: str, file: bytes, *, stream: bool) -> Heard:
    """Send a file and read the whole answer.

    Raises:
        RuntimeError: the answer is not 200, or a stream did not end with `transcript.text.done`.
    """
    body = form(file, model="whisper-1", stream=str(stream).lower())
    connection = HTTPConnection(urlsplit(base_url).netloc, timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        began = time.perf_counter()
        connection.request("POST", TRANSCRIPTIONS, body, {"content-type": FORM_TYPE})
        answer = connection.getresponse()
        if answer.status != HTTPStatus.OK:
            raise RuntimeError(f"{answer.status}: {answer.read().decode()}")
        first_delta_s, last = None, b""
        for line in filter(bytes.strip, answer):
            if first_delta_s is None and b'"transcript.text.delta"' in line:
                first_delta_s = time.perf_counter() - began
            last = line
        total_s = time.perf_counter() - began
    if stream and b'"transcript.text.done"' not in last:
        raise RuntimeError("the stream broke off")
    return Heard(first_delta_s, total_s)


def minute_of_speech(base_url: str) -> Clip:
    """Sixty seconds of sentences with pauses."""
    request = {"model": "tts-1", "voice": "ash", "response_format": "wav"}
    clips = []
    for sentence in PARAGRAPH.split(". "):
        body = {**request, "input": sentence}
        spoken = httpx.post(f"{base_url}/v1/audio/speech", json=body).raise_for_status()
        clip = decode(spoken.content, "wav")
        clips += [clip, silence(PAUSE_S, clip.sample_rate)]
    reading = joined(*clips)
    times = int(MINUTE_S // reading.duration_s) + 1
    samples = joined(*[reading] * times).samples[: round(MINUTE_S * reading.sample_rate)]
    return Clip(samples, reading.sample_rate, 1)


def overhead(server: ServerProcess, engine: str, file: bytes) -> Figures:
    """A minute, not streamed: its wall time, and the processor time of worker and server."""
    (worker,) = server.workers(engine)
    before = cpu_s(worker), cpu_s(server.pid)
    wall_s = transcribe(server.base_url, file, stream=False).total_s
    worker_s, server_s = cpu_s(worker) - before[0], cpu_s(server.pid) - before[1]
    return {
        "wall_s": round(wall_s, 3),
        "worker_cpu_s": round(worker_s, 2),
        "server_cpu_s": round(server_s, 2),
    }


def first_delta(server: ServerProcess, file: bytes, times: int) -> Figures:
    """A minute, streamed: the part of the whole time after which the first words are there."""
    heard = [transcribe(server.base_url, file, stream=True) for _ in range(times)]
    firsts = [each.first_delta_s for each in heard if each.first_delta_s is not None]
    totals = [each.total_s for each in heard]
    shares = [first / total for first, total in zip(firsts, totals, strict=True)]
    return {
        "n": times,
        "first_delta_s": round(statistics.median(firsts), 3),
        "total_s": round(statistics.median(totals), 3),
        "share": round(statistics.median(shares), 3),
    }


def peak_memory(server: ServerProcess, file: bytes, hours: float) -> Figures:
    """An hour, streamed: the most memory that the server process has ever held."""
    before_mib = memory_mib(server.pid, "VmHWM")
    heard = transcribe(server.base_url, file, stream=True)
    return {
        "file_mb": round(len(file) / 1e6, 1),
        "audio_s": round(hours * 3600),
        "total_s": round(heard.total_s, 1),
        "peak_before_mib": round(before_mib, 1),
        "peak_mib": round(memory_mib(server.pid, "VmHWM"), 1),
    }


@contextlib.contextmanager
def babbling_server() -> Iterator[ServerProcess]:
    """A server whose Whisper costs next to nothing."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "rhapsode.toml"
        config.write_text(tiny_whisper(Path(folder) / "tiny"))
        with own_server({"RHAPSODE_CONFIG": str(config)}) as server:
            yield server


def measure(times: int, hours: float) -> Figures:
    """All figures."""
    figures: Figures = {}
    with own_server({"RHAPSODE_ENGINES__WHISPER__ENABLED": "false"}) as server:
        minute = encode_mp3_frames(minute_of_speech(server.base_url))
        figures["embedded"] = {
            "overhead": overhead(server, "pocketsphinx", minute),
            "stream": first_delta(server, minute, 1),
        }
    with babbling_server() as server:
        hour = minute * round(hours * 60)
        figures["hour_mp3"] = peak_memory(server, hour, hours)
        figures["tiny_whisper"] = {
            "overhead": overhead(server, "whisper", minute),
            "stream": first_delta(server, minute, times),
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    parser.add_argument("--times", type=int, default=5, help="streams of the tiny Whisper")
    parser.add_argument("--hours", type=float, default=1.0, help="length of the long recording")
    options = parser.parse_args()
    facts = provenance("compat_tests.bench.transcription")
    report(facts, measure(options.times, options.hours), options.out)


if __name__ == "__main__":
    main()
