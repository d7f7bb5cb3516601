"""The bucket: several hosts, one order of changes, and a cache that cannot be wrong."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, GenericError
from obstore.store import MemoryStore, ObjectStore

from voices import errors
from voices.commits import Blobs, CommitLog, State
from voices.limits import StoreLimits
from voices.names import new_voice_id
from voices.profile import VoiceEdit, VoiceProfile
from voices.remote import RemoteShelf, open_bucket
from voices.store import VOICES, VoiceStore
from voices.tests.samples import Place, draft, prompt


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place("memory", tmp_path)


def keys(place: Place, prefix: str = "voices") -> list[str]:
    return sorted(each["path"] for each in obstore.list(place.bucket, prefix=prefix).collect())


def test_hosts_that_race_for_a_name_give_it_to_one(place: Place) -> None:
    stores = [place.store() for _ in range(8)]

    def add(store: VoiceStore) -> bool:
        try:
            store.add(draft("Anna"), prompt())
        except errors.NameTaken:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, stores)) == 1
    [voice] = place.store().voices(None)
    assert {key.split("/")[2] for key in keys(place, "voices/blobs")} == {voice.id}


def test_hosts_that_race_to_the_limit_stop_at_it(place: Place) -> None:
    stores = [place.store(StoreLimits(per_owner=3)) for _ in range(8)]

    def add(number: int) -> None:
        try:
            stores[number].add(draft(f"voice {number}"), prompt())
        except errors.TooMany:
            return

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    assert len(place.store().voices(None)) == 3


def test_change_elsewhere_is_seen_after_the_refresh_or_where_it_matters(tmp_path: Path) -> None:
    bucket, now = MemoryStore(), [100.0]
    here, there = (
        VoiceStore(
            RemoteShelf(bucket, tmp_path / host, VoiceProfile, VOICES, 5.0, lambda: now[0]),
            StoreLimits(),
        )
        for host in ("here", "there")
    )
    added = there.add(draft("Anna"), prompt())
    assert here.get("Anna", None) == added
    edited = there.update("Anna", None, VoiceEdit(prompt_text="New."))
    assert here.get("Anna", None) == added
    now[0] += 5
    assert here.get("Anna", None) == edited
    new = there.add(draft("Berta"), prompt())
    assert here.get("Berta", None) == new
    there.remove("Anna", None)
    assert here.voices(None) == [new]


def test_recording_is_fetched_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.store().add(draft(), prompt())
    store = place.store()
    store.samples(store.get("Anna", None))
    fetched: list[str] = []
    get = obstore.get

    def noted(bucket: ObjectStore, key: str) -> object:
        fetched.append(key)
        return get(bucket, key)

    monkeypatch.setattr(obstore, "get", noted)
    store.samples(store.get("Anna", None))
    assert fetched
    assert not [key for key in fetched if "blobs" in key]


def test_damaged_cache_is_fetched_again(place: Place) -> None:
    added = place.store().add(draft(), prompt())
    store = place.store()
    before = store.audio(added)
    for path in place.root.rglob("cache2/**/*"):
        if path.is_file():
            path.write_bytes(b"not what it was")
    assert store.audio(added) == before
    assert store.faults() == []


def test_cache_that_cannot_be_written_makes_nothing_wrong(place: Place) -> None:
    added = place.store().add(draft(), prompt())
    (place.root / "cache2").write_text("a file where a folder should be")
    assert len(place.store().samples(added)[0]) == len(prompt().samples)


def test_removed_voice_leaves_no_word_and_no_sound(place: Place) -> None:
    store, other = place.store(), place.store()
    added = store.add(draft(), prompt())
    other.samples(added)
    store.update("Anna", None, VoiceEdit(name="Berta"))
    assert len(keys(place, "voices/blobs")) == 3
    store.remove("Berta", None)
    other.voices(None)
    assert keys(place, "voices/blobs") == []
    assert not list(place.root.rglob(f"cache*/voices/{added.id}"))
    kept = b"".join(bytes(obstore.get(place.bucket, key).bytes()) for key in keys(place))
    assert added.id.encode() in kept
    assert b"Anna" not in kept
    assert b"Berta" not in kept
    assert b"morning" not in kept


@pytest.mark.parametrize("damage", ["delete", "change"])
@pytest.mark.parametrize("blob", ["profile.json", "prompt.flac"])
def test_voice_with_a_damaged_blob_is_set_aside(place: Place, damage: str, blob: str) -> None:
    broken = place.store().add(draft("Anna"), prompt())
    whole = place.store().add(draft("Berta"), prompt(seed=1))
    blobs = keys(place, f"voices/blobs/{broken.id}")
    is_audio = {key: bytes(obstore.get(place.bucket, key).bytes())[:4] == b"fLaC" for key in blobs}
    [key] = [key for key in blobs if is_audio[key] == (blob == "prompt.flac")]
    if damage == "delete":
        obstore.delete(place.bucket, key)
    else:
        obstore.put(place.bucket, key, b"fLaC{}")
    store = place.store()
    if blob == "prompt.flac":
        with pytest.raises(errors.VoiceNotFound):
            store.samples(broken)
    assert store.voices(None) == [whole]
    [fault] = place.store().faults()
    assert fault.record_id == broken.id
    assert blob in fault.reason
    assert store.add(draft("Anna"), prompt()).name == "Anna"


def test_bad_entry_in_the_log_breaks_no_list(place: Place) -> None:
    first = place.store().add(draft("Anna"), prompt())
    obstore.put(place.bucket, "voices/log/000000000002.json", b'{"id": "../../etc", "nonce": ""}')
    obstore.put(place.bucket, "voices/log/000000000003.json", b"\xff\xfe")
    second = place.store().add(draft("Berta"), prompt())
    assert place.store().voices(None) == [first, second]


def test_new_host_starts_from_a_snapshot(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voices.commits._SNAPSHOT_EVERY", 4)
    store = place.store()
    added = [store.add(draft(f"voice {number}"), prompt()) for number in range(9)]
    snapshots = keys(place, "voices/snapshots")
    assert [key[-6:-5] for key in snapshots] == ["4", "8"]
    obstore.delete(place.bucket, keys(place, "voices/log")[:4])
    assert place.store().voices(None) == added
    obstore.put(place.bucket, snapshots[0], b"damaged")
    assert place.store().voices(None) == added


def test_what_dead_hosts_uploaded_is_swept_after_an_hour(place: Place) -> None:
    old, young = f"voice_{'0' * 26}", new_voice_id()
    for voice_id in (old, young):
        obstore.put(place.bucket, f"voices/blobs/{voice_id}/{'0' * 64}", b"half an upload")
    added = place.store().add(draft(), prompt())
    left = {key.split("/")[2] for key in keys(place, "voices/blobs")}
    assert left == {young, added.id}


def test_create_whose_answer_was_lost_counts_as_done(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = obstore.put

    def lose_answer(bucket: MemoryStore, key: str, data: bytes, **options: Any) -> object:
        result = put(bucket, key, data, **options)
        if "/log/" in key:
            raise AlreadyExistsError(key)
        return result

    monkeypatch.setattr(obstore, "put", lose_answer)
    added = place.store().add(draft(), prompt())
    assert place.store().voices(None) == [added]
    assert len(keys(place, "voices/log")) == 1


def test_change_after_an_old_state_is_refused(place: Place) -> None:
    log = CommitLog(place.bucket, "voices", refresh_s=0)
    blobs = Blobs("0" * 64, "1" * 64)
    assert log.append(State(), new_voice_id(), blobs)
    assert not log.append(State(), new_voice_id(), blobs)
    assert log.state(is_fresh=True).count == 1


@pytest.mark.parametrize("call", ["put", "get", "list"])
def test_bucket_that_does_not_answer_is_told_and_the_reason_logged(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise GenericError("timed out\n\nDebug source: everything")

    added = place.store().add(draft("Anna"), prompt())
    with monkeypatch.context() as patch:
        patch.setattr(obstore, call, fail)
        with pytest.raises(errors.StoreUnavailable) as caught:
            place.store().add(draft("Berta"), prompt())
    assert str(caught.value) == "the shared store with the voices does not answer"
    assert "timed out" in caplog.text
    assert "Debug" not in caplog.text
    assert place.store().voices(None) == [added]


def test_blobs_that_cannot_be_deleted_now_do_not_keep_a_voice(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = place.store().add(draft(), prompt())

    def fail(*args: object) -> None:
        raise GenericError("denied")

    monkeypatch.setattr(obstore, "delete", fail)
    assert place.store().remove("Anna", None) == added
    assert place.store().voices(None) == []


def test_unknown_kind_of_bucket_is_told() -> None:
    with pytest.raises(errors.StoreUnavailable):
        open_bucket("carrier-pigeon://coop")
