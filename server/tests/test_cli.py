"""The command line around the real embedded engine."""

import io
import sys
import wave
from pathlib import Path

import pytest

from server.cli import main


@pytest.fixture(autouse=True)
def no_settings_from_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = str(tmp_path_factory.mktemp("home"))
    home = {"PATH": "/usr/bin", "HOME": folder, "XDG_DATA_HOME": folder}
    monkeypatch.setattr("os.environ", home)


def errors(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_speak_writes_the_format_of_the_files_name(tmp_path: Path) -> None:
    path = tmp_path / "hello.flac"
    assert main(["speak", "Hello there.", "-o", str(path)]) == 0
    assert path.read_bytes().startswith(b"fLaC")
    assert list(tmp_path.iterdir()) == [path]


def test_speak_takes_text_from_standard_input_and_writes_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello there."))
    assert main(["speak", "-", "-o", "-", "--voice", "onyx"]) == 0
    clip = capfdbinary.readouterr().out
    with wave.open(io.BytesIO(clip)) as header:
        assert header.getframerate() == 24000
    assert len(clip) > 24000


def test_speed_is_honoured(tmp_path: Path) -> None:
    sizes = []
    for speed in ("0.5", "2"):
        path = tmp_path / f"{speed}.pcm"
        assert main(["speak", "Hello there, how are you?", "-o", str(path), "--speed", speed]) == 0
        sizes.append(path.stat().st_size)
    assert sizes[0] / sizes[1] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--voice", "nobody"], "The voice 'nobody' does not exist"),
        (["--speed", "9"], "speed: "),
        (["--format", "ogg"], "response_format: "),
        (["--model", "none"], "The model 'none' does not exist"),
        (["--language", "xx-nope"], "does not speak 'xx-nope'"),
        (["--set", "limits.input_chars=3"], "characters are too many"),
        (["--set", "limits.nope=3"], "unknown key 'nope'"),
        (["--set", "limits"], "write KEY=VALUE"),
        (["--config", "none.toml"], "cannot read none.toml"),
    ],
)
def test_what_cannot_be_spoken_is_one_line_and_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    path = tmp_path / "out.mp3"
    assert main(["speak", "Hello.", "-o", str(path), *options]) == 1
    error = errors(capsys)
    assert says in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_file_that_was_there_survives_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "out.mp3"
    path.write_bytes(b"precious")
    assert main(["speak", "Hello.", "-o", str(path), "--voice", "nobody"]) == 1
    assert path.read_bytes() == b"precious"


def test_voices_lists_names_and_what_the_engine_brings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["voices"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"alloy", "cedar", "gmw/en-US", "sit/cmn"} <= set(names)
    assert len(names) > 100


def test_models_lists_what_each_name_means(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    table = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines())
    assert table["tts-1"] == table["espeak-ng"] == "espeak-ng"


def test_doctor_says_what_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    report = capsys.readouterr().out
    assert "+ espeak-ng: speech, 22050 Hz" in report
    assert "does not clone voices" in report


def test_doctor_says_what_to_do_about_an_engine_that_cannot_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "rhapsode.toml"
    engine = "engine.tests.fake:ToneSynthesizer"
    config.write_text(f'[engines."{engine}".options]\nfail_load = "no weights: fetch them"\n')
    assert main(["doctor", "--config", str(config)]) == 1
    report = capsys.readouterr().out
    assert f"x {engine}" in report
    assert "no weights: fetch them" in report
