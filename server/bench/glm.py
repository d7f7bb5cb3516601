"""`rhapsode bench glm`: latency, throughput and memory of the engine that clones voices."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Iterable
from typing import Literal

from msgspec import Struct

from server.bench.host import Host, description, memory, own_server
from server.bench.measure import (
    Crowd,
    Fields,
    Figures,
    Stream,
    call,
    crowd,
    milliseconds,
    percentile,
    speak,
)

TEXT = "The harbour was quiet tonight, and one lamp still burned over the old door by the sea wall."
"""One piece of speech. With random weights a byte of it is a token."""
_TOKENS_PER_S = 25
_WARM_UP_CALLS = 3
_READY_S = 600.0


class Plan(Struct, frozen=True, kw_only=True):
    """What to measure, and on what."""

    engine: str = "glm-tts"
    model: str | None = None
    """Folder of a checkpoint."""
    weights: Literal["random", "published"] = "random"
    """If there is no folder: made up, which gives noise at a real model's pace, or those that
    `rhapsode models pull` has fetched."""
    size: Literal["true", "tiny"] = "true"
    devices: tuple[str, ...] = ("auto",)
    voice: str = "alloy"
    streams: tuple[int, ...] = (1, 4, 8, 16, 32, 64)
    calls: int = 20
    """One after the other."""
    clip_s: float = 10.0
    """Of a short clip with random weights; a checkpoint decides for itself."""
    long_clips: int = 6
    """Short clips' texts in the long one; 0: leave it out."""
    warm_up_s: float = 5.0
    measured_s: float = 20.0
    """For each number of streams."""


def run(plan: Plan) -> Figures:
    """Start a server and measure it.

    Raises:
        BenchError: it did not start, or broke off.
    """
    with own_server(_settings(plan), _READY_S) as host:
        return measure(plan, host)


def measure(plan: Plan, host: Host) -> Figures:
    """All figures of a server that is ready."""
    fields = {"model": plan.engine, "voice": plan.voice, "input": TEXT}
    figures: Figures = {
        "engine": description(host.address, plan.engine),
        "start_to_ready_s": round(host.start_to_ready_s, 2),
        "memory_loaded": memory(host.pid),
    }
    first = asyncio.run(speak(host.address, fields))
    figures["first_call_ttfa_ms"] = round(1000 * first.ttfa_s, 1)
    short = _one_at_a_time(host, fields, plan.calls)
    figures["one"] = _alone(short)
    figures["memory_one"] = memory(host.pid)
    if plan.long_clips:
        text = " ".join([TEXT] * plan.long_clips)
        long = _one_at_a_time(host, {**fields, "input": text}, max(1, plan.calls // 5))
        figures["one_long"] = _alone(long)
        figures["long_to_short"] = _ratio(long, short)
    figures["streams"] = [_steady(plan, host, fields, count) for count in plan.streams]
    figures["memory_after"] = memory(host.pid)
    figures["wake"] = {
        f"{state}_s": _wake(plan, host, fields, action)
        for state, action in (("offloaded", "offload"), ("stopped", "stop"))
    }
    return figures


def _one_at_a_time(host: Host, fields: Fields, calls: int) -> list[Stream]:
    """Clips of one stream, warm."""

    async def all_of_them() -> list[Stream]:
        for _ in range(_WARM_UP_CALLS):
            await speak(host.address, fields)
        return [await speak(host.address, fields) for _ in range(calls)]

    return asyncio.run(all_of_them())


def _alone(streams: list[Stream]) -> Figures:
    return {
        "audio_s": round(statistics.median(stream.audio_s for stream in streams), 2),
        "wall_s": round(statistics.median(stream.wall_s for stream in streams), 4),
        "rtf": round(_rtf(streams), 5),
        "ttfa": milliseconds([stream.ttfa_s for stream in streams]),
        "share_with_underrun": _share(stream.underrun_s > 0 for stream in streams),
    }


def _rtf(streams: list[Stream]) -> float:
    return statistics.median(stream.wall_s / stream.audio_s for stream in streams)


def _ratio(long: list[Stream], short: list[Stream]) -> Figures:
    """How much longer the long clip is, and how much longer it takes: equal if cost is linear."""

    def times(values: Callable[[Stream], float]) -> float:
        more, fewer = (statistics.median(map(values, group)) for group in (long, short))
        return round(more / fewer, 2)

    return {"audio": times(lambda each: each.audio_s), "wall": times(lambda each: each.wall_s)}


def _steady(plan: Plan, host: Host, fields: Fields, clients: int) -> Figures:
    heard = asyncio.run(crowd(host.address, fields, clients, plan.warm_up_s, plan.measured_s))
    return {"clients": clients, **_crowd_figures(heard), **memory(host.pid)}


def _crowd_figures(heard: Crowd) -> Figures:
    asked = [stream for stream in heard.streams if stream.sent_s >= heard.began_s]
    underruns = [stream.underrun_s for stream in heard.streams]
    return {
        "audio_s_per_s": round(heard.audio_s_per_s, 1),
        "clips": sum(stream.is_whole for stream in heard.streams),
        "ttfa": milliseconds([stream.ttfa_s for stream in asked]),
        "share_with_underrun": _share(underrun > 0 for underrun in underruns),
        "underrun_p95_ms": round(1000 * percentile(underruns, 95), 1) if underruns else None,
        "refused": heard.refused,
        "unheard": heard.unheard,
    }


def _share(facts: Iterable[bool]) -> float | None:
    counted = list(facts)
    return round(sum(counted) / len(counted), 4) if counted else None


def _wake(plan: Plan, host: Host, fields: Fields, action: str) -> float | None:
    """TTFA of an engine that sleeps, s; None where it cannot be sent to sleep."""
    status, _ = call(host.address, "POST", f"/v1/engines/{plan.engine}/{action}")
    if status != 200:
        return None
    return round(asyncio.run(speak(host.address, fields)).ttfa_s, 3)


def _settings(plan: Plan) -> dict[str, object]:
    """That engine alone, and clips of as many seconds as are asked for."""
    others = {name: {"enabled": False} for name in ("espeak-ng", "whisper", "pocketsphinx")}
    engine: dict[str, object] = {"devices": list(plan.devices), "options": _options(plan)}
    if ":" in plan.engine:
        others["glm-tts"] = {"enabled": False}
    return {
        "speech_engines": [plan.engine],
        "pool": {"wait_s": _READY_S},
        "engines": {**others, plan.engine: engine},
    }


def _options(plan: Plan) -> dict[str, object]:
    if ":" in plan.engine:
        return {}
    if plan.model is not None:
        return {"model": plan.model}
    if plan.weights == "published":
        return {}
    ratio = plan.clip_s * _TOKENS_PER_S / len(TEXT)
    return {
        "random_weights": 0,
        "size": plan.size,
        "min_tokens_per_text_token": ratio,
        "max_tokens_per_text_token": ratio + 0.001,
    }
