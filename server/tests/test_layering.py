"""The rules of direction: who may import whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WEB = {"litestar", "uvicorn", "starlette", "httpx"}
HEAVY = {"torch", "torchaudio", "faster_whisper", "espeakng_loader", "pocketsphinx"}
CONTRACT = {
    f"engine.{name}"
    for name in ("protocol", "types", "errors", "config", "registry", "text", "features", "hub")
}


def modules(room: str) -> list[Path]:
    return [path for path in sorted((ROOT / room).rglob("*.py")) if "tests" not in path.parts]


def imports(path: Path) -> set[str]:
    """Dotted names of all that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names.add(node.module)
    return names


def tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def test_rooms_are_where_this_test_looks() -> None:
    assert len(modules("server")) > 10
    assert len(modules("engine")) > 10


@pytest.mark.parametrize("path", modules("engine"), ids=str)
def test_engine_knows_no_web_and_no_voices(path: Path) -> None:
    assert not tops(imports(path)) & (WEB | {"server", "voices"})


@pytest.mark.parametrize("path", modules("voices"), ids=str)
def test_voices_knows_neither_engine_nor_web(path: Path) -> None:
    assert not tops(imports(path)) & (WEB | {"server", "engine"})


@pytest.mark.parametrize("path", modules("server"), ids=str)
def test_server_holds_no_model_and_no_plug_in(path: Path) -> None:
    names = imports(path)
    assert not tops(names) & HEAVY
    ours = {name for name in names if name.startswith("engine.")}
    assert all(name in CONTRACT or name.startswith("engine.runtime.") for name in ours), ours


@pytest.mark.parametrize("path", modules("engine"), ids=str)
def test_plug_in_imports_the_contract_and_itself(path: Path) -> None:
    room = path.relative_to(ROOT / "engine").parts[0]
    if room == "runtime" or room.endswith(".py"):
        return
    ours = {name for name in imports(path) if name.startswith("engine.")}
    assert all(name in CONTRACT or name.startswith(f"engine.{room}") for name in ours), ours


@pytest.mark.parametrize("path", modules("engine/runtime"), ids=str)
def test_runtime_reaches_plug_ins_only_through_the_registry(path: Path) -> None:
    ours = {name for name in imports(path) if name.startswith("engine")}
    allowed = CONTRACT | {"engine"}
    assert all(name in allowed or name.startswith("engine.runtime.") for name in ours), ours


@pytest.mark.parametrize("path", sorted((ROOT / "compat_tests").rglob("*.py")), ids=str)
def test_compat_tests_import_none_of_ours(path: Path) -> None:
    assert not tops(imports(path)) & {"server", "engine", "voices"}
