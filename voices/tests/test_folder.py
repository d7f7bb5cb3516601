"""The folder: what is broken in it is set aside, and a disk that fails changes nothing."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from voices import errors
from voices.folder import FolderShelf
from voices.profile import VoiceEdit, VoiceProfile
from voices.store import VOICES, VoiceStore
from voices.tests.samples import Place, draft, prompt


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place("folder", tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "voices"


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_voice_is_a_folder_of_two_plain_files_for_their_owner_alone(
    store: VoiceStore, root: Path
) -> None:
    added = store.add(draft(), prompt())
    folder = root / added.id
    assert sorted(path.name for path in folder.iterdir()) == ["profile.json", "prompt.flac"]
    assert (folder / "prompt.flac").read_bytes()[:4] == b"fLaC"
    assert json.loads((folder / "profile.json").read_text())["name"] == "Anna"
    assert all(path.stat().st_mode & 0o077 == 0 for path in (folder, *folder.iterdir()))


def test_newer_and_older_profiles_are_read(store: VoiceStore, place: Place, root: Path) -> None:
    added = store.add(draft(), prompt())
    path = root / added.id / "profile.json"
    profile = json.loads(path.read_text())
    profile["version"], profile["mood"] = 7, {"new": "field"}
    del profile["description"], profile["text_is_reliable"], profile["report"]["warnings"]
    path.write_text(json.dumps(profile))
    found = place.store().get(added.id, None)
    assert (found.name, found.description, found.version) == ("Anna", None, 7)


def spoil_text(folder: Path) -> None:
    (folder / "profile.json").write_bytes(b'{"id": "voi')


def spoil_encoding(folder: Path) -> None:
    path = folder / "profile.json"
    path.write_bytes(path.read_bytes().replace(b"Anna", b"\xff\xfe"))


def spoil_depth(folder: Path) -> None:
    (folder / "profile.json").write_bytes(b'{"x": ' + b"[" * 100_000)


def lose_profile(folder: Path) -> None:
    (folder / "profile.json").unlink()


def profile_is_folder(folder: Path) -> None:
    lose_profile(folder)
    (folder / "profile.json").mkdir()


def profile_is_loop(folder: Path) -> None:
    lose_profile(folder)
    (folder / "profile.json").symlink_to("profile.json")


def lose_audio(folder: Path) -> None:
    (folder / "prompt.flac").unlink()


def cut_audio(folder: Path) -> None:
    os.truncate(folder / "prompt.flac", 100)


def folder_is_file(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("?")


def other_voice(folder: Path) -> None:
    path = folder / "profile.json"
    path.write_text(path.read_text().replace("voice_0", "voice_1"))


@pytest.mark.parametrize(
    "spoil",
    [
        *(spoil_text, spoil_encoding, spoil_depth, lose_profile, profile_is_folder),
        *(profile_is_loop, lose_audio, cut_audio, folder_is_file, other_voice),
    ],
)
def test_voice_that_is_not_whole_is_set_aside_and_the_others_listed(
    place: Place, root: Path, spoil: Callable[[Path], None]
) -> None:
    broken = place.store().add(draft("Anna"), prompt())
    whole = place.store().add(draft("Berta"), prompt())
    spoil(root / broken.id)
    store = place.store()
    assert store.voices(None) == [whole]
    [fault] = store.faults()
    assert fault.record_id == broken.id
    assert fault.reason
    assert not (root / broken.id).exists()
    assert len(list((root / ".broken").glob(f"{broken.id}-*"))) == 2
    assert store.add(draft("Anna"), prompt()).name == "Anna"


def test_audio_that_changed_under_its_digest_is_never_spoken(
    place: Place, root: Path, store: VoiceStore
) -> None:
    added = store.add(draft(), prompt())
    path = root / added.id / "prompt.flac"
    data = bytearray(path.read_bytes())
    data[-100] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(errors.CorruptVoice):
        store.samples(added)
    assert store.voices(None) == []
    assert [fault.record_id for fault in store.faults()] == [added.id]


def test_broken_voice_in_a_folder_that_cannot_change_is_left_out(
    place: Place, root: Path, store: VoiceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = store.add(draft("Anna"), prompt())
    whole = store.add(draft("Berta"), prompt())
    lose_audio(root / broken.id)

    def refuse(*args: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "rename", refuse)
    assert place.store().voices(None) == [whole]
    monkeypatch.setattr("fcntl.flock", refuse)
    assert place.store().voices(None) == [whole]
    assert (root / broken.id).exists()


def test_what_is_not_ours_in_the_folder_is_left_alone(store: VoiceStore, root: Path) -> None:
    (root / ".DS_Store").write_text("x")
    (root / "voice_1").mkdir()
    (root / "notes").mkdir()
    added = store.add(draft(), prompt())
    assert store.voices(None) == [added]
    assert store.faults() == []
    assert (root / "voice_1").is_dir()


@pytest.mark.parametrize("call", ["mkdir", "open", "write", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_failing_disk_is_told_and_changes_nothing(
    store: VoiceStore, root: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    added = store.add(draft("Anna"), prompt())
    before = files(root)

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        expected = errors.StoreUnavailable if number == errno.EIO else errors.StoreFull
        with pytest.raises(expected):
            store.add(draft("Berta"), prompt())
    assert files(root) == before
    assert store.voices(None) == [added]
    store.add(draft("Berta"), prompt())


def test_disk_that_takes_a_few_bytes_at_a_time_gets_them_all(
    store: VoiceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:100]))
    added = store.add(draft(), prompt())
    assert len(store.samples(added)[0]) == len(prompt().samples)


def test_process_short_of_files_takes_no_voice_for_broken(
    place: Place, store: VoiceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = store.add(draft(), prompt())

    def fail(path: Path) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        with pytest.raises(errors.StoreUnavailable):
            place.store().voices(None)
    assert place.store().voices(None) == [added]


def test_nothing_is_left_of_a_removed_voice(store: VoiceStore, root: Path) -> None:
    added = store.add(draft(), prompt())
    store.update(added.id, None, VoiceEdit(name="Berta"))
    store.remove(added.id, None)
    assert files(root) == {".lock": b""}
    assert list((root / ".aside").iterdir()) == []


def test_unchanged_profiles_are_not_read_again(
    store: VoiceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = store.add(draft(), prompt())
    assert store.voices(None) == [added]
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} read again"))
    assert store.get("Anna", None) == added


def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.StoreUnavailable, match="file"):
        FolderShelf(tmp_path / "file" / "voices", VoiceProfile, VOICES)
