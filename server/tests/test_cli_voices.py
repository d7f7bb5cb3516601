"""`rhapsode voices` around the real embedded engines and a store of its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from server.cli import main

TEXT = "Good morning. How are you today? It is a fine day for a walk in the park."


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "ada.wav"
    assert main(["speak", TEXT, "-o", str(path), "--voice", "echo"]) == 0
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """The JSON that a command prints."""
    capsys.readouterr()
    assert main(["voices", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_voice_lives_from_add_to_remove(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run(capsys, "add", "Ada", str(recording), "--text", TEXT)
    assert made["prompt_text"] == TEXT
    assert run(capsys, "show", "ada")["id"] == made["id"]
    assert run(capsys, "rename", made["id"], "Eve")["name"] == "Eve"
    assert run(capsys, "correct", "Eve", "Good morning.")["prompt_text"] == "Good morning."

    archive = tmp_path / "eve.zip"
    assert main(["voices", "export", "Eve", str(archive)]) == 0
    assert main(["voices", "remove", "Eve"]) == 0
    assert main(["voices", "show", "Eve"]) == 1
    again = run(capsys, "import", str(archive), "--name", "Eve again")
    assert again["duration_s"] == made["duration_s"]

    assert main(["voices", "list"]) == 0
    assert any("Eve again" in line for line in capsys.readouterr().out.splitlines())
    assert main(["speak", "Hello.", "-o", str(tmp_path / "a.mp3"), "--voice", "eve again"]) == 0


def test_text_is_transcribed_when_it_is_not_given(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run(capsys, "add", "Ada", str(recording))
    assert made["text_source"] == "transcribed"
    assert made["text_engine"] == "pocketsphinx"
    assert made["text_is_reliable"] is False
    assert len(made["prompt_text"].split()) >= 5


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["add", "a/b", "{recording}", "--text", "x"], "name"),
        (["add", "Ada", "none.wav", "--text", "x"], "none.wav"),
        (["show", "nobody"], "nobody"),
        (["remove", "nobody"], "nobody"),
        (["import", "none.zip"], "none.zip"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    recording: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert main(["voices", *(word.format(recording=recording) for word in words)]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
