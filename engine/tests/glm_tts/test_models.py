"""The published files on disk, and how they get there from a hub of our own making."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import hub as hub_client
from engine.config import GlmTtsOptions
from engine.errors import LoadFailed
from engine.glm_tts.models import CAMPPLUS_REPOSITORY, REPOSITORY, find_model, missing, pull
from engine.tests.fake_hub import FakeHub, empty_home, running_hub, unwatched

WANTED = {
    "llm/config.json": b"{}",
    "llm/model.safetensors.index.json": b"{} ",
    "llm/model-00001-of-00002.safetensors": b"one" * 100,
    "llm/model-00002-of-00002.safetensors": b"two" * 100,
    "flow/flow.pt": b"flow" * 100,
    "flow/config.yaml": b"a: 1",
    "hift/hift.pt": b"hift" * 100,
    "vocos2d/generator_jit.ckpt": b"vocos",
    "speech_tokenizer/config.json": b"{  }",
    "speech_tokenizer/preprocessor_config.json": b"{   }",
    "speech_tokenizer/model.safetensors": b"ears" * 100,
    "vq32k-phoneme-tokenizer/tokenizer.model": b"words",
    "vq32k-phoneme-tokenizer/tokenizer_config.json": b"[]",
}
UNWANTED = {
    "README.md": b"read me",
    "vq32k-phoneme-tokenizer/tokenization_chatglm.py": b"print()",
    "llm/../../../outside.safetensors": b"no",
}
CAMPPLUS = b"speaker" * 100
TOTAL = sum(map(len, WANTED.values())) + len(CAMPPLUS)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, from which no real hub can be reached."""
    return empty_home(tmp_path, monkeypatch)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with running_hub(REPOSITORY, WANTED | UNWANTED) as hub:
        hub.others[CAMPPLUS_REPOSITORY] = {"campplus.onnx": CAMPPLUS, "llm.pt": b"large"}
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def put_model(folder: Path, *, without: str | None = None, campplus: str | None = None) -> Path:
    files = WANTED | ({} if campplus is None else {campplus: CAMPPLUS})
    for name in files.keys() - {without}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(files[name])
    return folder


def files_below(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_it_is_light() -> None:
    code = "import sys, engine.glm_tts.models; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert not {b"torch", b"onnxruntime", b"safetensors"} & set(loaded.stdout.split())


def test_a_pulled_model_is_whole_and_found(hub: FakeHub, home: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert missing(GlmTtsOptions()) == (
        "GLM-TTS is not on this machine: run `rhapsode models pull glm-tts`"
    )
    folder = pull("glm-tts", lambda done, total: seen.append((done, total)))
    assert files_below(folder) == WANTED
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == ((0, TOTAL), (TOTAL, TOTAL))
    assert missing(GlmTtsOptions()) is None
    found = find_model(GlmTtsOptions(sample_rate=32_000))
    assert found.folder == folder
    assert files_below(found.campplus.parent) == {"campplus.onnx": CAMPPLUS}
    assert not list(home.rglob("outside.safetensors"))


def test_what_is_there_is_not_fetched_again(hub: FakeHub) -> None:
    folder = pull("glm-tts", unwatched)
    count = len(hub.requests)
    assert pull(REPOSITORY, unwatched) == folder
    assert len(hub.requests) == count


def test_only_the_speaker_encoder_is_fetched_when_only_that_lacks(hub: FakeHub) -> None:
    put_model(hub_client.folder_of(REPOSITORY))
    problem = missing(GlmTtsOptions())
    assert problem is not None
    assert problem.startswith("the speaker encoder, campplus.onnx, is not on this machine")
    pull("glm-tts", unwatched)
    assert [path for path, _ in hub.requests if path.startswith("/storage")] == [
        "/storage/campplus.onnx"
    ]
    assert missing(GlmTtsOptions()) is None


@pytest.mark.parametrize("name", ["campplus.onnx", "frontend/campplus.onnx"])
def test_a_folder_of_ones_own_may_hold_the_speaker_encoder(home: Path, name: str) -> None:
    folder = put_model(home / "mine", campplus=name)
    assert find_model(GlmTtsOptions(model=str(folder))).campplus == folder / name


def test_the_hugging_face_cache_is_searched(home: Path) -> None:
    cache = home / "XDG_CACHE_HOME" / "huggingface" / "hub" / "models--zai-org--GLM-TTS"
    partial = put_model(cache / "snapshots" / "partial", without="hift/hift.pt")
    (partial / "hift").mkdir(exist_ok=True)
    (partial / "hift" / "hift.pt").symlink_to(home / "no such blob")
    problem = missing(GlmTtsOptions())
    assert problem is not None
    assert problem.startswith("GLM-TTS is not on this machine")
    whole = put_model(cache / "snapshots" / "whole", campplus="campplus.onnx")
    assert find_model(GlmTtsOptions()).folder == whole


@pytest.mark.parametrize("lacking", ["hift/hift.pt", "llm/model.safetensors.index.json"])
def test_a_folder_that_is_not_whole_is_refused_with_what_it_lacks(home: Path, lacking: str) -> None:
    folder = put_model(home / "mine", without=lacking)
    problem = missing(GlmTtsOptions(model=str(folder)))
    assert problem == f"{folder} is not a whole GLM-TTS: it has no {lacking}"
    assert missing(GlmTtsOptions(model="./nowhere")) == "there is no folder ./nowhere"


def test_the_second_vocoder_is_asked_for_only_at_its_rate(home: Path) -> None:
    folder = put_model(
        home / "mine", without="vocos2d/generator_jit.ckpt", campplus="campplus.onnx"
    )
    assert missing(GlmTtsOptions(model=str(folder))) is None
    problem = missing(GlmTtsOptions(model=str(folder), sample_rate=32_000))
    assert problem == (f"sample_rate 32000 needs vocos2d/generator_jit.ckpt, and {folder} has none")


def test_random_weights_need_no_files() -> None:
    assert missing(GlmTtsOptions(random_weights=0)) is None


def test_a_repository_that_has_changed_is_refused_before_anything_is_fetched(hub: FakeHub) -> None:
    del hub.files["flow/flow.pt"]
    with pytest.raises(LoadFailed, match=r"GLM-TTS on the hub has no flow/flow\.pt"):
        pull("glm-tts", unwatched)
    assert not hub_client.models_folder().exists()


def test_a_folder_that_was_there_and_is_not_whole_is_named(hub: FakeHub) -> None:
    folder = put_model(hub_client.folder_of(REPOSITORY), without="hift/hift.pt")
    with pytest.raises(LoadFailed, match=r"has no hift/hift.pt: delete it, then run"):
        pull("glm-tts", unwatched)
    assert (folder / "flow/flow.pt").is_file()


def test_another_model_is_unknown() -> None:
    with pytest.raises(LoadFailed, match="there is no model 'gigantic'; known: glm-tts"):
        pull("gigantic", unwatched)
