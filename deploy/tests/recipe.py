"""What a Dockerfile says, as far as ours go."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple


class Instruction(NamedTuple):
    """One line of it, continuations joined."""

    keyword: str
    text: str


class Stage(NamedTuple):
    """All from one FROM to the next."""

    base: str
    steps: tuple[Instruction, ...]

    def all(self, keyword: str) -> list[str]:
        return [step.text for step in self.steps if step.keyword == keyword]

    def last(self, keyword: str) -> str:
        return self.all(keyword)[-1]

    def command(self) -> list[str]:
        """ENTRYPOINT and CMD; only the exec form is JSON."""
        words: list[str] = json.loads(self.last("ENTRYPOINT")) + json.loads(self.last("CMD"))
        return words

    def health_command(self) -> list[str]:
        words: list[str] = json.loads(self.last("HEALTHCHECK").partition("CMD ")[2])
        return words

    def environment(self) -> dict[str, str]:
        pairs = " ".join(self.all("ENV")).split()
        return dict(pair.split("=", 1) for pair in pairs)


def stages(dockerfile: Path) -> list[Stage]:
    """Its stages, in order."""
    lines = dockerfile.read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    found: list[tuple[str, list[Instruction]]] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            found.append((rest.split()[0], []))
        elif keyword:
            found[-1][1].append(Instruction(keyword, rest))
    return [Stage(base, tuple(steps)) for base, steps in found]
