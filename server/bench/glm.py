"""`rhapsode bench glm`: latency, throughput and memory of the engine that clones voices."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator

import msgspec

from server.bench.crowd import Crowd, crowd
from server.bench.host import Host, description, memory, own_server
from server.bench.measure import (
    BenchError,
    Fields,
    Figures,
    Stream,
    milliseconds,
    percentile,
    speak,
)
from server.bench.plan import READY_S, TEXT, Plan, settings_of, timing_arguments
from server.bench.residency import device_memory, sleep_and_wake

_WARM_UP_CALLS = 3
_MESSAGE_CHARS = 500


def run(plan: Plan) -> Iterator[Figures]:
    """Time the parts, then start servers and measure them.

    Yields:
        More figures, as they are found.
    Raises:
        BenchError: the plan cannot be followed, a server did not start, or one broke off.
    """
    plan.check()
    yield {"plan": msgspec.to_builtins(plan)}
    if plan.timing and ":" not in plan.engine:
        yield {"timing": _timing(plan)}
    with own_server(settings_of(plan), READY_S) as host:
        yield from measure(plan, host)
    scaling: list[Figures] = []
    for count in plan.scaling:
        scaling.append(_scaled(plan.on_devices(count)))
        yield {"scaling": scaling}


def measure(plan: Plan, host: Host) -> Iterator[Figures]:
    """All figures of a server that is ready."""
    fields = _fields(plan)
    yield {
        "engine": description(host.address, plan.engine),
        "start_to_ready_s": round(host.start_to_ready_s, 2),
        "memory_loaded": memory(host.pid),
    }
    first = asyncio.run(speak(host.address, fields))
    yield {"first_call_ttfa_ms": round(1000 * first.ttfa_s, 1)}
    short = _one_at_a_time(host, fields, plan.calls)
    yield {
        "one": _alone(short),
        "memory_one": memory(host.pid) | {"engine": device_memory(host.address, plan.engine)},
    }
    if plan.long_clips:
        text = " ".join([TEXT] * plan.long_clips)
        long = _one_at_a_time(host, {**fields, "input": text}, max(1, plan.calls // 5))
        yield {"one_long": _alone(long), "long_to_short": _ratio(long, short)}
    for name, plays in (("streams", False), ("players", True))[: 1 + plan.players]:
        rows: list[Figures] = []
        for count in plan.streams:
            rows.append(_steady(plan, host, count, plays=plays))
            yield {name: rows}
    yield {"memory_after": memory(host.pid)}
    for action in ("offload", "stop"):
        yield {action: sleep_and_wake(host.address, plan.engine, action, fields)}


def _timing(plan: Plan) -> Figures:
    """In a process of its own: no model is loaded into ours, and nothing of it stays."""
    done = subprocess.run(
        [sys.executable, "-m", "engine.glm_tts.timing", *timing_arguments(plan)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise BenchError(f"parts cannot be timed: {done.stderr.strip()[-_MESSAGE_CHARS:]}")
    figures: Figures = json.loads(done.stdout)
    return figures


def _scaled(plan: Plan) -> Figures:
    """Of a server of its own, on all devices of the plan."""
    count = len(plan.devices)
    with own_server(settings_of(plan), READY_S) as host:
        return {
            "devices": count,
            "on": list(plan.devices),
            **_steady(plan, host, count * plan.per_device, plays=False),
        }


def _fields(plan: Plan) -> Fields:
    return {"model": plan.engine, "voice": plan.voice, "input": TEXT}


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


def _steady(plan: Plan, host: Host, clients: int, *, plays: bool) -> Figures:
    load = plan.load(clients, plays=plays)
    heard = asyncio.run(crowd(host.address, _fields(plan), load))
    return {**msgspec.to_builtins(load), **_crowd_figures(heard), **memory(host.pid)}


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
