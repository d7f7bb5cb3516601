"""What a load is told by: waits, gaps, outcomes, memory over time, and the knee."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from msgspec import Struct

from engine.types import Task
from server.bench.load_client import UNFINISHED, Answer
from server.bench.load_drive import Round
from server.bench.load_probe import Sample
from server.bench.measure import Figures, milliseconds

_SETTLING = 0.25
"""Of the time, at its beginning, that a slope leaves out: an allocator that fills is no leak."""
_POINTS = 120
"""Of a curve in the report."""


class Bounds(Struct, frozen=True):
    """What is still well served."""

    ttfa_p95_ms: float
    underrun_share: float
    """Of the streams, those whose player ran dry at all."""


def round_figures(heard: Round, samples: Sequence[Sample], expected: Mapping[Task, str]) -> Figures:
    """Of one stretch of load.

    Args:
        heard: What clients got.
        samples: Of all the time, or more.
        expected: By task, the digest of an answer that a lone client got.
    """
    answers = heard.answers
    speech = [each for each in answers if each.task == "speech"]
    streams = [each.stream for each in speech if each.stream.arrivals]
    gaps = [
        after - before for each in streams for (before, _), (after, _) in pairwise(each.arrivals)
    ]
    written = [each for each in answers if each.task == "transcription" and each.is_whole]
    late = [each.sent_s - each.stream.sent_s for each in answers if each.sent_s is not None]
    wall_s = heard.ended_s - heard.began_s
    return {
        "wall_s": round(wall_s, 2),
        "requests": {"speech": len(speech), "transcription": len(answers) - len(speech)},
        "at_once": most_at_once(answers),
        "outcomes": dict(Counter(each.outcome for each in answers)),
        "refused": sum(each.is_refused for each in answers),
        "failed": sum(each.has_failed for each in answers),
        "unfinished": sum(each.code == UNFINISHED for each in answers),
        "unsent": heard.unsent,
        "different": sum(each.is_whole and each.digest != expected[each.task] for each in answers),
        "audio_s_per_s": round(sum(each.audio_s for each in streams) / wall_s, 1),
        "ttfa": milliseconds([each.ttfa_s for each in streams]),
        "gap": milliseconds(gaps),
        "share_with_underrun": _share(sum(each.underrun_s > 0 for each in streams), len(streams)),
        "underrun": milliseconds([each.underrun_s for each in streams]),
        "transcription": milliseconds([each.stream.wall_s for each in written]),
        "sent_late": milliseconds(late),
        "health": health_figures(
            [each for each in samples if heard.began_s <= each.at_s <= heard.ended_s]
        ),
    }


def most_at_once(answers: Sequence[Answer]) -> int:
    """Of the whole answers, how many were under way in one moment."""
    whole = [each for each in answers if each.sent_s is not None and each.ended_s is not None]
    steps = [(each.sent_s, 1) for each in whole] + [(each.ended_s, -1) for each in whole]
    now = most = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


def health_figures(samples: Sequence[Sample]) -> Figures:
    """How soon /health was answered."""
    good = [each.health_s for each in samples if each.health_s is not None]
    return {**milliseconds(good), "failed": len(samples) - len(good)}


def memory_figures(samples: Sequence[Sample]) -> Figures | None:
    """Resident memory and descriptors over time; None where nobody could look."""
    looks = [(each.at_s, each.memory) for each in samples if each.memory is not None]
    if len(looks) < 2:
        return None
    began_s, ended_s = looks[0][0], looks[-1][0]
    settled_s = began_s + _SETTLING * (ended_s - began_s)
    settled = [(at_s, memory) for at_s, memory in looks if at_s >= settled_s]
    thin = looks[:: max(1, len(looks) // _POINTS)]
    first, last = looks[0][1], looks[-1][1]
    return {
        "server_mib": {
            "first": first.server_mib,
            "last": last.server_mib,
            "most": max(memory.server_mib for _, memory in looks),
            "mib_per_min": slope([(at_s / 60, memory.server_mib) for at_s, memory in settled]),
        },
        "workers_mib": {
            "first": first.workers_mib,
            "last": last.workers_mib,
            "most": max(memory.workers_mib for _, memory in looks),
            "mib_per_min": slope([(at_s / 60, memory.workers_mib) for at_s, memory in settled]),
        },
        "descriptors": {
            "first": first.descriptors,
            "last": last.descriptors,
            "most": max(memory.descriptors for _, memory in looks),
        },
        "curve": [
            [round(at_s - began_s, 1), memory.server_mib, memory.workers_mib]
            for at_s, memory in thin
        ],
    }


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Of the straight line with the least squares; None: there is no line through them."""
    if len({at for at, _ in points}) < 2:
        return None
    at, values = np.array(points).T
    at = at - at.mean()
    return round(float((at * (values - values.mean())).sum() / (at * at).sum()), 3)


def is_within(row: Figures, bounds: Bounds) -> bool:
    """Whether all were served, and well: a server that refuses keeps the rest's waits short."""
    ttfa, share = row["ttfa"], row["share_with_underrun"]
    if not isinstance(ttfa, dict) or not isinstance(share, float) or "p95_ms" not in ttfa:
        return False
    unserved = [row[name] for name in ("refused", "failed", "unfinished", "unsent")]
    is_quick = bool(ttfa["p95_ms"] <= bounds.ttfa_p95_ms)
    return is_quick and share <= bounds.underrun_share and not any(unserved)


def _share(count: int, total: int) -> float | None:
    return round(count / total, 4) if total else None
