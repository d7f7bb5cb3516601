"""Throughput and time to first audio over the number of streams, as an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from msgspec import Struct

_WIDTH, _HEIGHT, _MARGIN = 420, 260, 48
_TICKS = 4
_COLOURS = ("#1f6feb", "#d1543f", "#2e8b57")


class Line(Struct, frozen=True):
    """One curve of a chart."""

    name: str
    values: tuple[float | None, ...]
    """One for each place on the axis; None leaves a gap."""


class Chart(Struct, frozen=True):
    """Curves over the same places, which stand equally far apart."""

    title: str
    places: tuple[str, ...]
    lines: tuple[Line, ...]


def svg(charts: Sequence[Chart]) -> str:
    """The charts side by side, as a file's text."""
    width = _WIDTH * len(charts)
    drawn = "".join(
        f'<g transform="translate({_WIDTH * index} 0)">{_chart(chart)}</g>\n'
        for index, chart in enumerate(charts)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" '
        f'font-family="sans-serif" font-size="11">\n'
        f'<rect width="{width}" height="{_HEIGHT}" fill="white"/>\n{drawn}</svg>\n'
    )


def _chart(chart: Chart) -> str:
    top = max((value for line in chart.lines for value in line.values if value), default=1.0)
    parts = [_text(_WIDTH / 2, 16, chart.title, "middle", "#222")]
    for tick in range(_TICKS + 1):
        value = top * tick / _TICKS
        y = _y(value, top)
        right = _WIDTH - _MARGIN / 2
        parts.append(f'<path d="M{_MARGIN} {y:.1f}H{right}" stroke="#ddd" fill="none"/>')
        parts.append(_text(_MARGIN - 6, y + 4, f"{value:.3g}", "end", "#555"))
    for index, place in enumerate(chart.places):
        x = _x(index, len(chart.places))
        parts.append(_text(x, _HEIGHT - _MARGIN + 18, place, "middle", "#555"))
    for index, line in enumerate(chart.lines):
        colour = _COLOURS[index % len(_COLOURS)]
        parts += _curve(line, top, colour)
        parts.append(_text(_MARGIN + 100 * index, _HEIGHT - 10, line.name, "start", colour))
    return "".join(parts)


def _curve(line: Line, top: float, colour: str) -> list[str]:
    points = [
        None if value is None else (_x(index, len(line.values)), _y(value, top))
        for index, value in enumerate(line.values)
    ]
    parts = [
        f'<path d="M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}" stroke="{colour}" fill="none"/>'
        for a, b in pairwise(points)
        if a and b
    ]
    dots = [point for point in points if point]
    return parts + [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in dots]


def _x(index: int, count: int) -> float:
    return _MARGIN + (index + 0.5) * (_WIDTH - 1.5 * _MARGIN) / count


def _y(value: float, top: float) -> float:
    return _HEIGHT - _MARGIN - value / top * (_HEIGHT - 2 * _MARGIN)


def _text(x: float, y: float, text: str, anchor: str, colour: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text {place} text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
