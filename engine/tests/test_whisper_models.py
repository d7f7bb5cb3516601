"""Models on disk, and how they get there from a hub of our own making."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faster_whisper import utils

from engine import hub as hub_client
from engine.config import WhisperOptions
from engine.errors import LoadFailed
from engine.hub import models_folder
from engine.tests.fake_hub import COMMIT, FakeHub, empty_home, running_hub, unwatched
from engine.whisper import models
from engine.whisper.models import REPOSITORIES, chosen, find_model, missing, pull

FILES = {
    "model.bin": bytes(range(256)) * 4000,
    "tokenizer.json": b'{"a": 1}',
    "vocabulary.txt": b"a\nb\n",
    "config.json": b"{}",
    "README.md": b"read me",
}
WANTED = FILES.keys() - {"README.md"}
TOTAL = sum(len(FILES[name]) for name in WANTED)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, from which no real hub can be reached."""
    return empty_home(tmp_path, monkeypatch)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with running_hub(REPOSITORIES["base"], dict(FILES)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def put_model(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names or WANTED:
        (folder / name).write_bytes(FILES[name])
    return folder


def pull_error(name: str = "base") -> str:
    with pytest.raises(LoadFailed) as caught:
        pull(name, unwatched)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_names_are_those_of_faster_whisper() -> None:
    assert REPOSITORIES == utils._MODELS


def test_it_is_light() -> None:
    code = "import sys, engine.whisper.models; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    heavy = {b"faster_whisper", b"ctranslate2", b"huggingface_hub", b"onnxruntime", b"numpy"}
    assert not heavy & set(loaded.stdout.split())


def test_a_local_folder_is_a_model_when_it_is_whole(home: Path) -> None:
    whole = put_model(home / "mine")
    partial = put_model(home / "partial", "model.bin", "vocabulary.txt")
    assert find_model(str(whole)) == whole
    assert find_model(str(partial)) is None
    assert missing(WhisperOptions(model=str(whole))) is None
    problem = missing(WhisperOptions(model=str(partial)))
    assert problem is not None
    assert problem.endswith("it has no tokenizer.json")


@pytest.mark.parametrize("name", ["base", "Systran/faster-whisper-base"])
def test_our_own_folder_is_searched(home: Path, name: str) -> None:
    folder = put_model(models_folder() / "Systran--faster-whisper-base")
    assert find_model(name) == folder
    assert folder.is_relative_to(home)


@pytest.mark.parametrize(
    ("variable", "below"),
    [("HF_HUB_CACHE", "."), ("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")],
)
def test_the_hugging_face_cache_is_searched(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, below: str
) -> None:
    monkeypatch.setenv(variable, str(home / "cache"))
    cache = home / "cache" / below / "models--Systran--faster-whisper-base" / "snapshots"
    put_model(cache / "partial", "tokenizer.json", "vocabulary.txt")
    (cache / "partial" / "model.bin").symlink_to(home / "no such blob")
    assert find_model("base") is None
    folder = put_model(cache / "whole")
    assert find_model("base") == folder


def test_what_is_missing_says_what_to_do() -> None:
    assert missing(WhisperOptions(model="base")) == (
        "the model base is not on this machine: run `rhapsode models pull base`"
    )
    assert missing(WhisperOptions(model="base", download=True)) is None
    assert missing(WhisperOptions(model="./nowhere")) == "there is no folder ./nowhere"
    unknown = missing(WhisperOptions(model="gigantic", download=True))
    assert unknown is not None
    assert unknown.startswith("there is no model 'gigantic'; known: tiny, ")


def test_a_pulled_model_is_whole_and_found(hub: FakeHub) -> None:
    seen: list[tuple[int, int]] = []
    folder = pull("base", lambda done, total: seen.append((done, total)))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: FILES[name] for name in WANTED
    }
    assert find_model("base") == folder
    assert seen == sorted(seen)
    assert seen[0] == (0, TOTAL)
    assert seen[-1] == (TOTAL, TOTAL)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_model_that_is_there_is_not_fetched(hub: FakeHub) -> None:
    folder = pull("base", unwatched)
    count = len(hub.requests)
    assert pull("base", unwatched) == folder
    assert len(hub.requests) == count


def test_two_at_once_fetch_it_once(hub: FakeHub) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: pull("base", unwatched), range(2))
    assert first == second
    assert [path for path, _ in hub.requests].count("/storage/model.bin") == 1


def test_a_cut_connection_goes_on_where_it_was(hub: FakeHub) -> None:
    hub.cut_after = 300_000
    folder = pull("base", unwatched)
    assert (folder / "model.bin").read_bytes() == FILES["model.bin"]
    assert hub.ranges() == ["bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_later_attempt_goes_on_and_nothing_shows_before(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_client, "_CHUNK_BYTES", 10_000)

    class Interrupted(Exception):
        pass

    def interrupt(done: int, total: int) -> None:
        if done > total / 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        pull("base", interrupt)
    assert find_model("base") is None
    (part,) = models_folder().iterdir()
    had = (part / "model.bin").stat().st_size
    assert 0 < had < len(FILES["model.bin"])
    folder = pull("base", unwatched)
    assert hub.ranges() == [f"bytes={had}-"]
    assert (folder / "model.bin").read_bytes() == FILES["model.bin"]
    assert not part.exists()


def test_parts_of_another_commit_are_not_used(hub: FakeHub) -> None:
    old = models_folder() / ".Systran--faster-whisper-base@deadbeef"
    put_model(old, "model.bin")
    other = put_model(models_folder() / ".Systran--faster-whisper-base.en@deadbeef", "model.bin")
    pull("base", unwatched)
    assert hub.ranges() == []
    assert not old.exists()
    assert other.exists()


def test_a_hub_that_sends_all_again_does_no_harm(hub: FakeHub) -> None:
    part = models_folder() / f".Systran--faster-whisper-base@{COMMIT}"
    part.mkdir(parents=True)
    (part / "model.bin").write_bytes(b"x" * 1000)
    hub.honours_range = False
    folder = pull("base", unwatched)
    assert (folder / "model.bin").read_bytes() == FILES["model.bin"]


def test_a_damaged_file_is_not_kept(hub: FakeHub) -> None:
    hub.damages = True
    assert "model.bin of Systran/faster-whisper-base arrived damaged" in pull_error()
    assert find_model("base") is None
    hub.damages = False
    assert find_model("base") is None
    assert pull("base", unwatched).is_dir()


def test_a_small_file_is_checked_too(hub: FakeHub) -> None:
    part = models_folder() / f".Systran--faster-whisper-base@{COMMIT}"
    part.mkdir(parents=True)
    (part / "tokenizer.json").write_bytes(b'{"a": 2}')
    assert "tokenizer.json" in pull_error()


def test_a_connection_that_brings_nothing_more_is_given_up(hub: FakeHub) -> None:
    hub.cut_after = 0
    assert "stopped sending" in pull_error()


def test_a_repository_without_a_model_is_refused(hub: FakeHub) -> None:
    del hub.files["model.bin"]
    assert pull_error().endswith("it has no model.bin")
    assert not models_folder().exists()


def test_an_unknown_model_is_refused(hub: FakeHub) -> None:
    assert pull_error("gigantic").startswith("there is no model 'gigantic'; known: tiny, ")
    assert pull_error("some/body") == "the hub has no public model some/body"


def test_the_token_goes_to_the_hub_only(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    pull("base", unwatched)
    told = {path.split("/")[1]: "Authorization" in headers for path, headers in hub.requests}
    assert told == {"api": True, "Systran": True, "storage": False}


def test_a_disk_that_cannot_be_written_is_named(hub: FakeHub, home: Path) -> None:
    (home / "XDG_DATA_HOME").write_text("not a folder")
    assert f"cannot write to {models_folder()}" in pull_error()


def test_an_address_that_is_no_hub_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    assert "HF_ENDPOINT is not the address of a hub" in pull_error()


def test_a_hub_that_refuses_is_reported_at_once() -> None:
    begun = time.monotonic()
    assert pull_error().startswith("cannot reach http://127.0.0.1:9: ")
    assert time.monotonic() - begun < 1.0


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_client, "_TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()
        assert "timed out" in pull_error()
        assert time.monotonic() - begun < 1.0


def test_options_that_name_no_model_mean_the_best_that_is_here() -> None:
    unnamed = WhisperOptions()
    assert chosen(unnamed) == "base"
    assert "rhapsode models pull base" in str(missing(unnamed))
    put_model(models_folder() / "Systran--faster-whisper-tiny")
    assert (chosen(unnamed), missing(unnamed)) == ("tiny", None)
    put_model(models_folder() / "Systran--faster-whisper-small")
    assert chosen(unnamed) == "small"
    assert chosen(WhisperOptions(model="tiny")) == "tiny"


def test_every_model_of_the_list_can_be_the_best() -> None:
    repositories = {REPOSITORIES[name] for name in models._BEST_FIRST}
    assert repositories == set(REPOSITORIES.values())
