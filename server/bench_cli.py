"""`rhapsode bench glm | load | plot | quality`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from server.bench import glm, load, quality
from server.bench.flat import flat
from server.bench.host import facts
from server.bench.load_plan import SCENARIOS, LoadPlan
from server.bench.measure import BenchError, Figures
from server.bench.plan import Plan
from server.bench.plot import draw
from server.settings import Settings

Command = Callable[[Settings, argparse.Namespace], int]


def add_bench_commands(commands: Any) -> None:
    """Put the sub-commands of `bench` on its parser's subparsers."""

    def command(name: str, run: Command) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(
            name, help=run.__doc__, description=run.__doc__
        )
        parser.set_defaults(run=run)
        return parser

    def measure(name: str, run: Command) -> argparse.ArgumentParser:
        parser = command(name, run)
        parser.add_argument("--out", type=Path, metavar="FILE.json", help="where the figures go")
        parser.add_argument("--commit", help="of this code, where there is no git to ask")
        return parser

    def with_model(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
        parser.add_argument("--model", metavar="FOLDER", help="of a checkpoint")
        return parser

    _add_plan(with_model(measure("glm", bench_glm)))
    _add_load_plan(measure("load", bench_load))
    picture = command("plot", bench_plot)
    picture.add_argument(
        "file", type=Path, metavar="FILE.json", help="of `bench glm` or `bench load`"
    )
    speech = with_model(measure("quality", bench_quality))
    speech.add_argument("--pairs", type=Path, required=True, metavar="FILE.json")
    speech.add_argument("--voices", metavar="PLACE", help="of voices that are not built in")


def bench_glm(_: Settings, args: argparse.Namespace) -> int:
    """How fast speech is cloned, for one listener and for many; with a plot beside FILE.json."""
    names = Plan.__struct_fields__
    fields = {name: getattr(args, name) for name in names}
    tuples = {name: tuple(fields[name]) for name in ("devices", "streams", "scaling")}
    _measure(glm.run(Plan(**{**fields, **tuples})), args, flat)
    return 0


def bench_load(_: Settings, args: argparse.Namespace) -> int:
    """What a server does with many clients: waits, refusals, memory; with a plot beside FILE.json.

    A server of its own is loaded, with the settings' defaults, or that of --url, which is shown the
    key in OPENAI_API_KEY.
    """
    fields = {name: getattr(args, name) for name in LoadPlan.__struct_fields__}
    tuples = {name: tuple(fields[name]) for name in ("rates", "clients", "crowds")}
    _measure(load.run(LoadPlan(**{**fields, **tuples})), args, lambda _: {})
    return 0


def bench_plot(_: Settings, args: argparse.Namespace) -> int:
    """Draw what `bench glm` or `bench load` wrote, as a PNG beside it."""
    if (picture := draw(args.file)) is None:
        raise BenchError(f"{args.file} has no figures that are drawn")
    print(picture)
    return 0


def bench_quality(_: Settings, args: argparse.Namespace) -> int:
    """Whether what is spoken is understood, and sounds like the voice; needs weights."""
    pairs = quality.read_pairs(args.pairs)
    read_with = facts(args.commit)
    _report({**read_with, "figures": quality.run(pairs, args.model, args.voices)}, args.out)
    return 0


def _add_plan(parser: argparse.ArgumentParser) -> None:
    usual, add = Plan(), parser.add_argument
    add("--weights", default=usual.weights, choices=("random", "published"))
    add("--size", default=usual.size, choices=("true", "tiny"), help="if random")
    add("--devices", nargs="+", default=usual.devices, help="cuda:0 cuda:1 ...")
    add("--voice", default=usual.voice)
    add("--engine", default=usual.engine, help=argparse.SUPPRESS)
    add("--no-timing", dest="timing", action="store_false", help="of each part by itself")
    add("--streams", type=int, nargs="*", default=usual.streams)
    add("--players", action="store_true", help="and with clients that play what they get")
    add("--calls", type=int, default=usual.calls, help="one after the other")
    add("--clip-s", type=float, default=usual.clip_s, help="if random")
    add("--long-clips", type=int, default=usual.long_clips)
    add("--stagger-s", type=float, help="between starts; without: CLIP_S / (2 x streams)")
    add("--warm-up-s", type=float, default=usual.warm_up_s)
    add("--measured-s", type=float, default=usual.measured_s)
    add("--scaling", type=int, nargs="+", default=usual.scaling, help="numbers of devices")
    add("--per-device", type=int, default=usual.per_device, help="streams, when scaling")


def _add_load_plan(parser: argparse.ArgumentParser) -> None:
    usual, add = LoadPlan(), parser.add_argument
    add("--scenario", default=usual.scenario, choices=SCENARIOS)
    add("--url", help="http://HOST:PORT of a server that runs; without: one of its own")
    add("--pid", type=int, help="of that server, if it is on this host: for its memory")
    add("--engine", default=usual.engine, help="that speaks, in a server of its own")
    add("--model", default=usual.model, help="to ask for")
    add("--voice", default=usual.voice)
    add("--text", default=usual.text)
    add("--transcription-share", type=float, default=usual.transcription_share, help="0 to 1")
    add("--rates", type=float, nargs="+", default=usual.rates, help="requests a second, Poisson")
    add("--clients", type=int, nargs="+", default=usual.clients, help="that ask again and again")
    add("--crowds", type=int, nargs="+", default=usual.crowds, help="that ask in one moment")
    add("--leavers", type=int, default=usual.leavers, help="in the middle of a stream")
    add("--early-leavers", type=int, default=usual.early_leavers, help="before the first byte")
    add("--wave", type=int, default=usual.wave, help="leavers at once")
    add("--seconds", type=float, default=usual.seconds, help="for each of RATES and CLIENTS")
    add("--minutes", type=float, default=usual.minutes, help="of a soak, at the first of RATES")
    add("--in-flight", type=int, default=usual.in_flight, help="at most, of an open loop")
    add("--seed", type=int, default=usual.seed)
    add("--ttfa-p95-ms", type=float, default=usual.ttfa_p95_ms, help="bound of the knee")
    add("--underrun-share", type=float, default=usual.underrun_share, help="bound of the knee")


def _measure(
    found: Iterator[Figures],
    args: argparse.Namespace,
    summary: Callable[[Figures], Mapping[str, object]],
) -> None:
    """Collect figures, report them, and draw them."""
    figures: Figures = {}
    read_with = facts(args.commit)
    try:
        for more in found:
            figures |= more
    finally:
        # What was measured before something broke off has cost its time, too.
        _report({**read_with, **summary(figures), "figures": figures}, args.out)
    if args.out is not None:
        try:
            draw(args.out)
        except BenchError as exc:
            print(exc, file=sys.stderr)


def _report(report: Figures, out: Path | None) -> None:
    text = json.dumps(report, indent=2, ensure_ascii=False)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
