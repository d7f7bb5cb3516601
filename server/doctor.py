"""`rhapsode doctor`: what is installed, what works here, what to do about the rest."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from engine.errors import EngineError
from engine.protocol import EngineFace
from engine.registry import PLUGINS
from server import VERSION
from server.offline import running_catalog
from server.settings import Settings

_PACKAGES = ("litestar", "uvicorn", "msgspec", "av", "espeakng-loader", "torch")
_OPTIONAL = {"torch": "only cloning engines need it"}


async def report(settings: Settings) -> tuple[list[str], bool]:
    """Lines for a person, and whether the main job works."""
    lines = [
        f"rhapsode {VERSION}, python {platform.python_version()} on {platform.platform()}",
        "",
        "packages",
    ]
    lines += [f"  {name:16} {_version_of(name)}" for name in _PACKAGES]
    lines += ["", "engines"]
    is_well = True
    async with running_catalog(settings) as catalog:
        for name, engine in catalog.engines.all().items():
            works, found = await _examine(name, engine)
            lines += found
            is_well = is_well and works
    disabled = [name for name in PLUGINS if name not in settings.running]
    lines += [f"  - {name}: disabled in the settings" for name in disabled]
    return lines, is_well


async def _examine(name: str, engine: EngineFace) -> tuple[bool, list[str]]:
    try:
        info = await engine.ready()
    except EngineError as exc:
        if engine.status.state == "absent":
            return True, [f"  - {name}: {engine.status.error}"]
        return False, [f"  x {name}: {exc}"]
    facts = [info.task, f"{info.sample_rate} Hz", f"languages: {len(info.languages)}"]
    if info.task == "speech":
        facts += [
            f"voices: {len(info.voices)}",
            "clones voices" if info.clones_voices else "does not clone voices",
        ]
    elif not info.is_accurate:
        facts.append("low accuracy")
    return True, [f"  + {name}: {', '.join(facts)}", f"      {info.description}"]


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return f"not installed ({_OPTIONAL.get(package, f'run: pip install {package}')})"
