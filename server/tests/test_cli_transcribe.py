"""`rhapsode transcribe` around the real embedded engines."""

import json
from pathlib import Path

import pytest

from server.cli import main


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = {"PATH": "/usr/bin", "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    monkeypatch.setattr("os.environ", home)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    text = "Good morning. How are you today?"
    assert main(["speak", text, "-o", str(path), "--voice", "echo"]) == 0
    return path


def test_transcript_goes_to_standard_output_and_the_warning_does_not(
    speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["transcribe", str(speech)]) == 0
    out, err = capsys.readouterr()
    assert len(out.split()) >= 3
    assert "many words wrong" not in out
    assert "rhapsode models pull base" in err


def test_transcripts_of_many_files_go_to_a_folder(speech: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.wav"
    second.write_bytes(speech.read_bytes())
    folder = tmp_path / "out"
    options = ["--format", "verbose_json", "-o", str(folder)]
    assert main(["transcribe", str(speech), str(second), *options]) == 0
    bodies = [json.loads((folder / name).read_text()) for name in ("speech.json", "second.json")]
    assert bodies[0]["duration"] == bodies[1]["duration"] > 1
    assert bodies[0]["text"] == bodies[1]["text"]


def test_file_that_cannot_be_read_does_not_stop_the_others(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    junk = tmp_path / "junk.mp3"
    junk.write_bytes(b"not audio")
    assert main(["transcribe", str(tmp_path / "none.wav"), str(junk), str(speech)]) == 1
    out, err = capsys.readouterr()
    assert len(out.split()) >= 3
    assert "none.wav" in err
    assert "junk.mp3" in err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--format", "xml"], "response_format"),
        (["--model", "nope"], "'nope' does not exist"),
        (["--language", "klingon"], "'klingon' is not a language"),
    ],
)
def test_bad_option_is_named(
    speech: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    assert main(["transcribe", str(speech), *options]) == 1
    assert says in capsys.readouterr().err


def test_pulling_an_unknown_model_names_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["models", "pull", "nope"]) == 1
    assert "large-v3-turbo" in capsys.readouterr().err
