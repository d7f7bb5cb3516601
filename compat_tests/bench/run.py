"""What every benchmark does: start a server, and tell the figures."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from compat_tests.process import ServerProcess

Figures: TypeAlias = dict[str, Any]


@contextlib.contextmanager
def own_server(
    env: Mapping[str, str] | None = None, within_s: float = 30.0
) -> Iterator[ServerProcess]:
    """A server that is ready, and is stopped afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder) / "log", env)
        try:
            server.wait_until_ready(within_s)
            yield server
        finally:
            server.stop()


def report(facts: Mapping[str, object], figures: Figures, out: Path | None) -> None:
    """Print the figures; write them as JSON, with what they must be read with."""
    print_table(figures)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({**facts, "figures": figures}, indent=2) + "\n")


def print_table(figures: Figures) -> None:
    """One figure a line, nested names joined by a blank."""
    for name, value in figures.items():
        if isinstance(value, dict):
            print_table({f"{name} {key}": inner for key, inner in value.items()})
        else:
            print(f"{name:<36}{value:>12}")
