"""What `bench glm` found over the number of streams, or `bench load`, as a picture. Needs
matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from server.bench.load_plot import LoadFigures, draw_load
from server.bench.measure import BenchError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INCHES = (8.0, 4.0)
_DOTS_AN_INCH = 200
"""Shown 800 px wide, an inch is 100 px, and the letters are 13 px high."""
_STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_BLUE, _RED, _GREY = "#1f6feb", "#d1543f", "#888888"


class _Ttfa(Struct, frozen=True):
    p50_ms: float | None = None
    p95_ms: float | None = None


class _Row(Struct, frozen=True):
    clients: int
    audio_s_per_s: float
    ttfa: _Ttfa


class _Figures(Struct, frozen=True):
    engine: str = ""
    streams: tuple[_Row, ...] = ()
    players: tuple[_Row, ...] = ()


class _Head(Struct, frozen=True):
    """Of any report; what its figures are is decided by what is in them."""

    figures: msgspec.Raw
    rhapsode: str
    cores: int
    commit: str | None = None
    devices: dict[str, str] = {}

    @property
    def title(self) -> str:
        """Hardware and commit."""
        names = sorted({line.partition(",")[0] for line in self.devices.values()})
        hardware = ", ".join(names) if names else f"{self.cores} CPU cores"
        return f"{hardware} · rhapsode {self.rhapsode} · commit {self.commit or 'unknown'}"


class _Plan(Struct, frozen=True):
    scenario: str | None = None
    """Of a load."""


class _Kind(Struct, frozen=True):
    plan: _Plan = _Plan()


def draw(file: Path) -> Path | None:
    """Draw a report of `bench glm` or `bench load` into a PNG beside it.

    Returns:
        Where it is; None: nothing was measured that is drawn.
    Raises:
        BenchError: the file is no such report, or there is no matplotlib.
    """
    try:
        head = msgspec.json.decode(file.read_bytes(), type=_Head)
        figures = _read_figures(head.figures)
    except msgspec.DecodeError as exc:
        message = f"{file} is no report of `rhapsode bench glm` or `bench load`: {exc}"
        raise BenchError(message) from exc
    if isinstance(figures, _Figures) and not figures.streams:
        return None
    try:
        from matplotlib.figure import Figure
        from matplotlib.style import context
    except ImportError as exc:
        raise BenchError(
            "a plot needs matplotlib: `pip install 'rhapsode[bench]'`, then `rhapsode bench plot "
            f"{file}`"
        ) from exc
    with context(_STYLE):
        figure = Figure(figsize=_INCHES, dpi=_DOTS_AN_INCH, layout="constrained")
        if isinstance(figures, LoadFigures):
            if not draw_load(figure, figures):
                return None
            figure.suptitle(head.title, fontsize=9.5)
        else:
            _draw_streams(figure, figures)
            figure.suptitle(f"{head.title}\n{figures.engine}", fontsize=9.5)
        out = file.with_suffix(".png")
        figure.savefig(out)
    return out


def _read_figures(raw: msgspec.Raw) -> _Figures | LoadFigures:
    if msgspec.json.decode(raw, type=_Kind).plan.scenario is None:
        return msgspec.json.decode(raw, type=_Figures)
    return msgspec.json.decode(raw, type=LoadFigures)


def _draw_streams(figure: Figure, figures: _Figures) -> None:
    waits, audio = figure.subplots(1, 2)
    _draw_waits(waits, figures)
    _draw_audio(audio, figures)


def _draw_waits(axes: Axes, figures: _Figures) -> None:
    axes.set_title("time to first audio, ms")
    for rows, style, kind in _kinds(figures):
        for percent, colour in ((50, _BLUE), (95, _RED)):
            waits = [getattr(row.ttfa, f"p{percent}_ms") for row in rows]
            heard = [(row.clients, ms) for row, ms in zip(rows, waits, strict=True) if ms]
            axes.plot(
                [clients for clients, _ in heard], [ms for _, ms in heard],
                style, color=colour, label=f"p{percent}{kind}",
            )  # fmt: skip
    _finish(axes, figures)


def _draw_audio(axes: Axes, figures: _Figures) -> None:
    axes.set_title("audio made in a second, s")
    for rows, style, kind in _kinds(figures):
        clients = [row.clients for row in rows]
        axes.plot(
            clients, [row.audio_s_per_s for row in rows], style, color=_BLUE, label=f"made{kind}"
        )
    counts = sorted(row.clients for row in figures.streams)
    axes.plot(counts, counts, ":", color=_GREY, label="played: 1 s a stream")
    _finish(axes, figures)


def _kinds(figures: _Figures) -> list[tuple[tuple[_Row, ...], str, str]]:
    """Rows, how their lines look, and what to add to their names."""
    kinds = ((figures.streams, "o-", ""), (figures.players, "o--", ", players"))
    return [kind for kind in kinds if kind[0]]


def _finish(axes: Axes, figures: _Figures) -> None:
    counts = sorted({row.clients for row in figures.streams})
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("streams at once")
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, color="#e5e5e5")
    axes.legend(frameon=False)
