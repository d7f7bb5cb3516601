"""`rhapsode bench glm | quality`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from server.bench import glm, quality
from server.bench.host import facts
from server.bench.measure import Figures
from server.bench.plot import Chart, Line, svg
from server.settings import Settings

Command = Callable[[Settings, argparse.Namespace], int]


def add_bench_commands(commands: Any) -> None:
    """Put the sub-commands of `bench` on its parser's subparsers."""

    def command(name: str, run: Command) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(
            name, help=run.__doc__, description=run.__doc__
        )
        parser.set_defaults(run=run)
        parser.add_argument("--out", type=Path, metavar="FILE.json", help="where the figures go")
        parser.add_argument("--model", metavar="FOLDER", help="of a checkpoint")
        return parser

    usual = glm.Plan()
    speed = command("glm", bench_glm)
    speed.add_argument("--weights", default=usual.weights, choices=("random", "published"))
    speed.add_argument("--size", default=usual.size, choices=("true", "tiny"), help="if random")
    speed.add_argument("--devices", nargs="+", default=usual.devices, help="cuda:0 cuda:1 ...")
    speed.add_argument("--voice", default=usual.voice)
    speed.add_argument("--engine", default=usual.engine, help=argparse.SUPPRESS)
    speed.add_argument("--streams", type=int, nargs="*", default=usual.streams)
    speed.add_argument("--calls", type=int, default=usual.calls, help="one after the other")
    speed.add_argument("--clip-s", type=float, default=usual.clip_s, help="if random")
    speed.add_argument("--long-clips", type=int, default=usual.long_clips)
    speed.add_argument("--warm-up-s", type=float, default=usual.warm_up_s)
    speed.add_argument("--measured-s", type=float, default=usual.measured_s)
    speech = command("quality", bench_quality)
    speech.add_argument("--pairs", type=Path, required=True, metavar="FILE.json")
    speech.add_argument("--voices", metavar="PLACE", help="of voices that are not built in")


def bench_glm(_: Settings, args: argparse.Namespace) -> int:
    """How fast speech is cloned, for one listener and for many; with a plot beside FILE.json."""
    names = glm.Plan.__struct_fields__
    fields = {name: getattr(args, name) for name in names}
    plan = glm.Plan(**{**fields, "devices": tuple(args.devices), "streams": tuple(args.streams)})
    figures = glm.run(plan)
    _report(figures, args.out)
    if args.out is not None and plan.streams:
        rows = cast("list[dict[str, Any]]", figures["streams"])
        args.out.with_suffix(".svg").write_text(svg(_charts(rows)), encoding="utf-8")
    return 0


def bench_quality(_: Settings, args: argparse.Namespace) -> int:
    """Whether what is spoken is understood, and sounds like the voice; needs weights."""
    pairs = quality.read_pairs(args.pairs)
    _report(quality.run(pairs, args.model, args.voices), args.out)
    return 0


def _charts(rows: list[dict[str, Any]]) -> list[Chart]:
    places = tuple(str(row["clients"]) for row in rows)
    waits = (
        Line(name, tuple(row["ttfa"].get(f"{name}_ms") for row in rows)) for name in ("p50", "p95")
    )
    return [
        Chart(
            "audio seconds made in a second, by streams",
            places,
            (Line("audio s/s", tuple(row["audio_s_per_s"] for row in rows)),),
        ),
        Chart("time to first audio, ms, by streams", places, tuple(waits)),
        Chart(
            "share of streams with an underrun",
            places,
            (Line("share", tuple(row["share_with_underrun"] for row in rows)),),
        ),
    ]


def _report(figures: Figures, out: Path | None) -> None:
    print(json.dumps(figures, indent=2, ensure_ascii=False))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**facts(), "figures": figures}, indent=2, ensure_ascii=False)
        out.write_text(text + "\n", encoding="utf-8")
