"""The figures that stand in a table, one key each; null where something was not measured.

All over HTTP with pcm, but for those of parts by themselves.

rtf_c1_10s          RTF of a clip of about 10 s, one listener, clip after clip, median
ttfa_ms_p50_c1      request to first byte of the same calls, median
ttfa_ms_p95_c32     the same at 32 clients that ask again at once (`streams`), 95th percentile
underrun_share_c32  of the streams heard then, those whose player would have run dry at all
audio_s_per_s_c64   audio that arrives in a second at 64 such clients, s
llm_step_ms_b*      a step of the language model by itself, at a context of 600 tokens
vocoder_ms_10s      500 mel frames to audio in one window, by itself
device_gb_c1        what is used of the first worker's device after the calls of one listener, all
                    there is less what is free by the driver, in 1e9 bytes: weights, recordings,
                    caches, what the allocator holds, CUDA itself, and whatever others have there
ready_s             start of the server's process to /ready
wake_host_s         POST /v1/engines/{name}/load after an offload, to its answer
wake_stopped_s      the same after a stop, when a new process has to load and to record
cost_60s_over_10s   RTF of a clip of about 60 s over that of one of about 10 s
scaling_*gpu        audio a second on so many devices over that on one, as many streams on each

"About" is within a fifth.
"""

from __future__ import annotations

from msgspec import Struct, convert

from server.bench.measure import Figures

_CONTEXT = "600"
_SHORT_S, _LONG_S = 10.0, 60.0
_ABOUT = 0.2
"""Of a clip's length, up or down."""


class _Ttfa(Struct, frozen=True):
    p50_ms: float | None = None
    p95_ms: float | None = None


class _Alone(Struct, frozen=True):
    audio_s: float
    rtf: float
    ttfa: _Ttfa

    def lasts(self, seconds: float) -> bool:
        return abs(self.audio_s / seconds - 1) <= _ABOUT


class _Row(Struct, frozen=True):
    clients: int
    audio_s_per_s: float
    ttfa: _Ttfa
    share_with_underrun: float | None
    devices: int = 1


class _Timing(Struct, frozen=True):
    llm_step_ms: dict[str, dict[str, float]]
    vocoder_ms_10s: float


class _Device(Struct, frozen=True):
    total_bytes: int
    free_bytes: int


class _Memory(Struct, frozen=True):
    engine: tuple[_Device, ...] = ()


class _Wake(Struct, frozen=True):
    load_s: float


class _Raw(Struct, frozen=True):
    """What is needed of the raw figures; each may be missing."""

    timing: _Timing | None = None
    start_to_ready_s: float | None = None
    one: _Alone | None = None
    one_long: _Alone | None = None
    memory_one: _Memory = _Memory()
    streams: tuple[_Row, ...] = ()
    offload: _Wake | None = None
    stop: _Wake | None = None
    scaling: tuple[_Row, ...] = ()


def flat(figures: Figures) -> dict[str, float | None]:
    """The keys above, of raw figures: all of them, or those that were found."""
    raw = convert(figures, _Raw)
    rows = {row.clients: row for row in raw.streams}
    c32, c64 = rows.get(32), rows.get(64)
    one, steps = raw.one, raw.timing.llm_step_ms[_CONTEXT] if raw.timing else {}
    return {
        "rtf_c1_10s": one.rtf if one and one.lasts(_SHORT_S) else None,
        "ttfa_ms_p50_c1": one.ttfa.p50_ms if one else None,
        "ttfa_ms_p95_c32": c32.ttfa.p95_ms if c32 else None,
        "underrun_share_c32": c32.share_with_underrun if c32 else None,
        "audio_s_per_s_c64": c64.audio_s_per_s if c64 else None,
        "llm_step_ms_b1": steps.get("1"),
        "llm_step_ms_b32": steps.get("32"),
        "llm_step_ms_b64": steps.get("64"),
        "vocoder_ms_10s": raw.timing.vocoder_ms_10s if raw.timing else None,
        "device_gb_c1": _used_gb(raw.memory_one.engine),
        "ready_s": raw.start_to_ready_s,
        "wake_host_s": raw.offload.load_s if raw.offload else None,
        "wake_stopped_s": raw.stop.load_s if raw.stop else None,
        "cost_60s_over_10s": _cost(one, raw.one_long),
        "scaling_2gpu": _scaling(raw.scaling, 2),
        "scaling_4gpu": _scaling(raw.scaling, 4),
    }


def _used_gb(devices: tuple[_Device, ...]) -> float | None:
    if not devices:
        return None
    return round((devices[0].total_bytes - devices[0].free_bytes) / 1e9, 3)


def _cost(short: _Alone | None, long: _Alone | None) -> float | None:
    if not short or not long or not (short.lasts(_SHORT_S) and long.lasts(_LONG_S)):
        return None
    return round(long.rtf / short.rtf, 3)


def _scaling(rows: tuple[_Row, ...], count: int) -> float | None:
    by_devices = {row.devices: row.audio_s_per_s for row in rows}
    if count not in by_devices or not by_devices.get(1):
        return None
    return round(by_devices[count] / by_devices[1], 3)
