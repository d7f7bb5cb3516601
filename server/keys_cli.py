"""`rhapsode keys add`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from server.keys import add_key
from server.settings import Settings, SettingsError


def add_key_commands(commands: Any) -> None:
    """Put the sub-commands of `keys` on its parser's subparsers."""
    adding = commands.add_parser("add", help=add.__doc__, description=add.__doc__)
    adding.set_defaults(run=add)
    adding.add_argument("name", help="for the log and for its limits: up to 64 of a-z 0-9 _ -")
    adding.add_argument("--file", type=Path, help="the setting keys_file, if absent")


def add(settings: Settings, args: argparse.Namespace) -> int:
    """Make an API key, print it this once, and keep its hash; a server reads it as it starts."""
    named = Path(settings.keys_file) if settings.keys_file else None
    path: Path | None = args.file or named
    if path is None:
        raise SettingsError("where to? give --file FILE, or set keys_file")
    print(add_key(path, args.name))
    if path != named:
        print(f"the server has to be told of it: keys_file = '{path}'", file=sys.stderr)
    return 0
