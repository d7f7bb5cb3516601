"""How fast the server speaks: `python -m compat_tests.bench.speech --out FILE.json`.

Starts a server of its own unless `--base-url` names one. What needs the server's process (its
CPU, memory and start) is left out then, unless `--pid` names that too.
"""

import argparse
import asyncio
import contextlib
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from compat_tests.audio import PCM_BYTES_PER_S, Format, decode
from compat_tests.bench.machine import provenance
from compat_tests.bench.measure import Caller, cpu_s, memory_mib, percentile, speak_at_once
from compat_tests.bench.run import Figures, own_server, report
from compat_tests.texts import FIVE_SECONDS, LONGEST

TIMED_FORMATS: tuple[Format, ...] = ("pcm", "mp3")
WARM_UP = 5
CPU_RUN_S = 10.0
"""How long the server sends PCM, at least, while its CPU time is taken."""
SAME_DURATION = 0.02
"""How far a clip's duration may be from that of one spoken alone, as a part of it."""


def speech(text: str, response_format: Format) -> dict[str, object]:
    return {
        "model": "tts-1",
        "voice": "alloy",
        "input": text,
        "response_format": response_format,
    }


def milliseconds(seconds: Sequence[float]) -> Figures:
    return {
        "n": len(seconds),
        "p50_ms": round(percentile(seconds, 50) * 1000, 2),
        "p95_ms": round(percentile(seconds, 95) * 1000, 2),
        "max_ms": round(max(seconds) * 1000, 2),
    }


def one_at_a_time(base_url: str, response_format: Format, calls: int) -> Figures:
    """TTFA and RTF of a clip of about five seconds, warm."""
    request = speech(FIVE_SECONDS, response_format)
    with contextlib.closing(Caller(base_url)) as caller:
        for _ in range(WARM_UP):
            caller.speak(request)
        answers = [caller.speak(request) for _ in range(calls)]
    audio_s = decode(answers[0].body, response_format).duration_s
    wall_s = statistics.median(answer.total_s for answer in answers)
    return {
        "audio_s": round(audio_s, 2),
        "ttfa": milliseconds([answer.first_byte_s for answer in answers]),
        "rtf": round(wall_s / audio_s, 5),
    }


def all_at_once(base_url: str, response_format: Format, streams: int) -> Figures:
    """A crowd that asks at the same moment."""
    request = speech(FIVE_SECONDS, response_format)
    with contextlib.closing(Caller(base_url)) as caller:
        alone_s = decode(caller.speak(request).body, response_format).duration_s
    began, client_before_s = time.perf_counter(), time.process_time()
    answers = asyncio.run(speak_at_once(base_url, request, streams))
    wall_s = time.perf_counter() - began
    client_cpu_s = time.process_time() - client_before_s
    durations = [decode(answer.body, response_format).duration_s for answer in answers]
    figures = {
        "streams": streams,
        "completed": len(answers),
        "duration_correct": sum(abs(d - alone_s) <= SAME_DURATION * alone_s for d in durations),
        "wall_s": round(wall_s, 2),
        "client_cpu_s": round(client_cpu_s, 2),
        "audio_s": round(sum(durations), 1),
        "rtf": round(wall_s / sum(durations), 5),
        "ttfa": milliseconds([answer.first_byte_s for answer in answers]),
    }
    if response_format == "pcm":
        figures["underrun"] = milliseconds([a.underrun_s(PCM_BYTES_PER_S) for a in answers])
    return figures


def server_cpu(base_url: str, pid: int) -> Figures:
    """CPU of the server process alone while it sends PCM: the worker that makes it is apart."""
    request = speech(LONGEST, "pcm")
    sent_bytes = 0
    with contextlib.closing(Caller(base_url)) as caller:
        caller.speak(speech(FIVE_SECONDS, "pcm"))
        began, used_before_s = time.monotonic(), cpu_s(pid)
        while time.monotonic() - began < CPU_RUN_S:
            sent_bytes += len(caller.speak(request).body)
        used_s = cpu_s(pid) - used_before_s
    audio_s = sent_bytes / PCM_BYTES_PER_S
    return {
        "audio_s": round(audio_s, 1),
        "cpu_s": round(used_s, 2),
        "us_per_20_ms": round(used_s / audio_s * 20_000, 2),
    }


def start_to_ready(times: int) -> Figures:
    """From the start of the process to a /ready that says so."""
    seconds = []
    for _ in range(times):
        began = time.monotonic()
        with own_server():
            seconds.append(time.monotonic() - began)
    return {"n": times, "median_s": round(statistics.median(seconds), 2)}


def measure(base_url: str, pid: int | None, calls: int, streams: int) -> Figures:
    """All figures of a running server; `pid` is its process, when that is on this machine."""
    figures: Figures = {}
    if pid is not None:
        figures["rss_idle_mib"] = round(memory_mib(pid), 1)
    for response_format in TIMED_FORMATS:
        figures[f"one_{response_format}"] = one_at_a_time(base_url, response_format, calls)
    for response_format in TIMED_FORMATS:
        figures[f"crowd_{response_format}"] = all_at_once(base_url, response_format, streams)
    if pid is not None:
        figures["server_cpu"] = server_cpu(base_url, pid)
        figures["rss_after_load_mib"] = round(memory_mib(pid), 1)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-url", help="a running server; default: start one")
    parser.add_argument("--pid", type=int, help="the process of the server at --base-url")
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    parser.add_argument("--calls", type=int, default=100, help="calls one after the other")
    parser.add_argument("--streams", type=int, default=200, help="calls at once")
    options = parser.parse_args()
    facts = provenance("compat_tests.bench.speech")
    if options.base_url:
        base_url = options.base_url.rstrip("/").removesuffix("/v1")
        figures = measure(base_url, options.pid, options.calls, options.streams)
    else:
        starts = start_to_ready(times=5)
        with own_server() as server:
            figures = measure(server.base_url, server.pid, options.calls, options.streams)
        figures["start_to_ready"] = starts
    report(facts, figures, options.out)


if __name__ == "__main__":
    main()
