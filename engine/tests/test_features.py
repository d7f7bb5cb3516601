from pathlib import Path

import numpy as np
import pytest

from engine.features import FeatureStore
from engine.types import PromptFeatures


def features(value: float, size: int = 10) -> PromptFeatures:
    return PromptFeatures(
        {"mel": np.full((2, size), value, np.float32), "tokens": np.arange(size, dtype=np.int32)}
    )


def store(folder: Path | None, revision: str = "r1", memory_bytes: int = 1 << 20) -> FeatureStore:
    return FeatureStore("cloner", revision, memory_bytes, folder)


def assert_same(one: PromptFeatures | None, other: PromptFeatures) -> None:
    assert one is not None
    assert set(one.arrays) == set(other.arrays)
    for name, array in other.arrays.items():
        np.testing.assert_array_equal(one.arrays[name], array)
        assert one.arrays[name].dtype == array.dtype


def test_features_outlive_the_worker(tmp_path: Path) -> None:
    store(tmp_path).put("d1", features(1.0))
    assert_same(store(tmp_path).get("d1"), features(1.0))


def test_unknown_prompt_has_none(tmp_path: Path) -> None:
    assert store(tmp_path).get("d1") is None
    assert store(None).get("d1") is None


def test_features_of_other_weights_are_not_taken(tmp_path: Path) -> None:
    store(tmp_path).put("d1", features(1.0))
    assert store(tmp_path, revision="r2").get("d1") is None


def test_memory_keeps_the_most_recently_used() -> None:
    each = features(0.0).nbytes
    kept = store(None, memory_bytes=2 * each)
    for digest in ("a", "b"):
        kept.put(digest, features(0.0))
    kept.get("a")
    kept.put("c", features(0.0))
    assert [kept.get(digest) is not None for digest in ("a", "b", "c")] == [True, False, True]


def test_what_memory_lets_go_is_found_on_disk(tmp_path: Path) -> None:
    kept = store(tmp_path, memory_bytes=1)
    kept.put("a", features(1.0))
    kept.put("b", features(2.0))
    assert_same(kept.get("a"), features(1.0))


@pytest.mark.parametrize("damage", [b"", b"junk", None])
def test_damaged_file_counts_as_none_and_is_replaced(tmp_path: Path, damage: bytes | None) -> None:
    store(tmp_path).put("d1", features(1.0))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-7] if damage is None else damage)
    again = store(tmp_path)
    assert again.get("d1") is None
    again.put("d1", features(2.0))
    assert_same(store(tmp_path).get("d1"), features(2.0))


def test_no_digest_names_a_file_outside_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    store(folder).put("../../escaped", features(1.0))
    assert [path.name for path in tmp_path.iterdir()] == ["features"]
    assert_same(store(folder).get("../../escaped"), features(1.0))


def test_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    kept = store(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        kept.put("d1", features(1.0))
    assert list(tmp_path.iterdir()) == []
    assert_same(kept.get("d1"), features(1.0))


def test_temporary_features_never_reach_the_disk(tmp_path: Path) -> None:
    kept = store(tmp_path, memory_bytes=1)
    kept.put("a", features(1.0), is_temporary=True)
    assert_same(kept.get("a"), features(1.0))
    kept.put("b", features(2.0), is_temporary=True)
    assert kept.get("a") is None
    assert list(tmp_path.iterdir()) == []


def test_temporary_features_go_to_disk_when_their_voice_is_stored(tmp_path: Path) -> None:
    kept = store(tmp_path)
    kept.put("d1", features(1.0), is_temporary=True)
    kept.put("d1", features(1.0))
    assert_same(store(tmp_path).get("d1"), features(1.0))


def test_what_is_on_disk_stays_there_and_is_not_written_again(tmp_path: Path) -> None:
    store(tmp_path).put("d1", features(1.0))
    (file,) = tmp_path.iterdir()
    written = file.stat().st_ino  # each write is a new file
    again = store(tmp_path)
    found = again.get("d1")
    assert found is not None
    again.put("d1", found)
    again.put("d1", found, is_temporary=True)
    assert file.stat().st_ino == written
