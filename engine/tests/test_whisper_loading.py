"""What does not load says why, in one line that tells what to do."""

from pathlib import Path

import pytest

from engine.config import WhisperOptions
from engine.errors import LoadFailed
from engine.tests.tiny_whisper import write_tiny_whisper
from engine.whisper.transcriber import WhisperTranscriber


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_whisper(tmp_path_factory.mktemp("models") / "nonsense")


def broken(folder: Path, target: Path, name: str, content: bytes | None) -> Path:
    """A copy of a model with one file that is not as it should be."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    if content is None:
        (target / name).unlink()
    else:
        (target / name).write_bytes(content)
    return target


def load_error(options: WhisperOptions, device: str = "cpu") -> str:
    with pytest.raises(LoadFailed) as caught:
        WhisperTranscriber(options).load(device)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("model.bin", None, "it has no model.bin"),
        ("tokenizer.json", None, "it has no tokenizer.json"),
        ("vocabulary.json", None, "it has no vocabulary.json"),
        ("model.bin", b"", "does not load"),
        ("model.bin", b"<html>" * 100, "does not load"),
        ("tokenizer.json", b"{", "does not load"),
        ("preprocessor_config.json", b'{"feature_size": 128}', "80 mel bins and gets 128"),
    ],
)
def test_a_model_that_is_not_whole_does_not_load(
    folder: Path, tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    target = broken(folder, tmp_path / "model", name, content)
    assert reason in load_error(WhisperOptions(model=str(target)))


def test_a_truncated_model_does_not_load(folder: Path, tmp_path: Path) -> None:
    half = (folder / "model.bin").read_bytes()[:30_000]
    target = broken(folder, tmp_path / "model", "model.bin", half)
    assert "does not load" in load_error(WhisperOptions(model=str(target)))


def test_a_model_that_is_not_there_does_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("XDG_DATA_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path))
    (tmp_path / "empty").mkdir()
    missing = str(tmp_path / "missing")
    assert "it has no model.bin" in load_error(WhisperOptions(model=str(tmp_path / "empty")))
    assert load_error(WhisperOptions(model=missing)) == f"there is no folder {missing}"
    assert "known: tiny, " in load_error(WhisperOptions(model="gigantic"))
    assert "`rhapsode models pull base`" in load_error(WhisperOptions(model="base"))


def test_a_hub_that_cannot_be_reached_stops_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("XDG_DATA_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "*")
    problem = load_error(WhisperOptions(model="base", download=True))
    assert problem.startswith("cannot reach http://127.0.0.1:9: ")


@pytest.mark.parametrize("device", ["cuda", "cuda:99"])
def test_a_device_that_is_not_there_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr("ctranslate2.get_cuda_device_count", lambda: 0)
    assert f"there is no {device}" in load_error(WhisperOptions(model=str(folder)), device)


@pytest.mark.parametrize("device", ["tpu", "cuda:x", ""])
def test_a_device_of_another_kind_is_refused(folder: Path, device: str) -> None:
    assert "not on" in load_error(WhisperOptions(model=str(folder)), device)


def test_a_compute_type_that_does_not_run_here_is_refused(folder: Path) -> None:
    options = WhisperOptions(model=str(folder), compute_type="float17")
    assert "compute_type may be float32, int8" in load_error(options)
