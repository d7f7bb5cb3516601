"""What `bench load` found, as a picture: a sweep over its rates, or memory over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _RED, _GREY = "#1f6feb", "#d1543f", "#888888"


class _Ttfa(Struct, frozen=True):
    p50_ms: float | None = None
    p95_ms: float | None = None


class _Plan(Struct, frozen=True):
    ttfa_p95_ms: float


class _Memory(Struct, frozen=True):
    curve: tuple[tuple[float, float, float], ...]
    """Seconds, and MiB of server and workers."""


class _Row(Struct, frozen=True):
    ttfa: _Ttfa = _Ttfa()
    requests: dict[str, int] = {}
    refused: int = 0
    failed: int = 0
    share_with_underrun: float | None = None
    memory: _Memory | None = None
    rate_per_s: float = 0.0
    clients: int = 0

    @property
    def refused_share(self) -> float:
        return (self.refused + self.failed) / max(1, sum(self.requests.values()))


class LoadFigures(Struct, frozen=True):
    """What is drawn of a report."""

    plan: _Plan | None = None
    rates: tuple[_Row, ...] = ()
    knee_per_s: float | None = None
    clients: tuple[_Row, ...] = ()
    crowds: tuple[_Row, ...] = ()
    soak: _Row | None = None
    mid_stream: _Row | None = None
    before_first_byte: _Row | None = None

    @property
    def by_time(self) -> dict[str, _Memory]:
        """Curves of memory, by what went on."""
        rows = {f"{each.clients} at once": each for each in self.crowds}
        rows |= {f"{each.clients} clients": each for each in self.clients}
        for name, row in (
            ("soak", self.soak),
            ("leave in the middle", self.mid_stream),
            ("leave early", self.before_first_byte),
        ):
            if row is not None:
                rows[name] = row
        return {name: row.memory for name, row in rows.items() if row.memory is not None}


def draw_load(figure: Figure, figures: LoadFigures) -> bool:
    """Fill a figure; False: there is nothing to draw."""
    if figures.rates:
        waits, shares = figure.subplots(1, 2)
        _draw_waits(waits, figures)
        _draw_shares(shares, figures)
        return True
    if figures.by_time:
        for axes, column, name in zip(
            figure.subplots(1, 2), (1, 2), ("server", "workers"), strict=True
        ):
            _draw_memory(axes, figures.by_time, column, name)
        return True
    return False


def _draw_waits(axes: Axes, figures: LoadFigures) -> None:
    axes.set_title("time to first audio, ms")
    for percent, colour in ((50, _BLUE), (95, _RED)):
        waits = [(row.rate_per_s, getattr(row.ttfa, f"p{percent}_ms")) for row in figures.rates]
        heard = [(rate, ms) for rate, ms in waits if ms is not None]
        axes.plot(*zip(*heard, strict=True), "o-", color=colour, label=f"p{percent}")
    if figures.plan is not None:
        axes.axhline(figures.plan.ttfa_p95_ms, linestyle=":", color=_GREY, label="bound of p95")
    axes.set_yscale("log")
    _finish_rates(axes, figures)


def _draw_shares(axes: Axes, figures: LoadFigures) -> None:
    axes.set_title("share of requests")
    rates = [row.rate_per_s for row in figures.rates]
    dry = [row.share_with_underrun or 0.0 for row in figures.rates]
    axes.plot(rates, dry, "o-", color=_BLUE, label="ran dry")
    refused = [row.refused_share for row in figures.rates]
    axes.plot(rates, refused, "o-", color=_RED, label="refused or failed")
    axes.set_ylim(-0.02, 1)
    _finish_rates(axes, figures)


def _finish_rates(axes: Axes, figures: LoadFigures) -> None:
    if figures.knee_per_s is not None:
        axes.axvline(figures.knee_per_s, color=_GREY, label="knee")
    axes.set_xlabel("requests a second")
    axes.grid(visible=True, color="#e5e5e5")
    axes.legend(frameon=False)


def _draw_memory(axes: Axes, curves: dict[str, _Memory], column: int, name: str) -> None:
    axes.set_title(f"memory of the {name}, MiB")
    for label, memory in curves.items():
        axes.plot(
            [point[0] for point in memory.curve],
            [point[column] for point in memory.curve],
            label=label,
        )
    axes.set_xlabel("s")
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, color="#e5e5e5")
    axes.legend(frameon=False)
