"""A place is a folder or a URL, and voices and consents share it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from voices.errors import StoreUnavailable
from voices.limits import StoreLimits
from voices.opening import default_cache, default_place, open_consents, open_voices
from voices.tests.samples import draft, prompt


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_place_keeps_voices_and_consents(tmp_path: Path, form: str) -> None:
    place, cache = form.format(tmp_path / "place"), tmp_path / "cache"
    voice = open_voices(place, cache, StoreLimits()).add(draft(), prompt())
    consent = open_consents(place, cache, StoreLimits()).add("a", "en", b"x", "audio/wav", None)
    assert open_voices(place, cache, StoreLimits()).voices(None) == [voice]
    assert open_consents(place, cache, StoreLimits()).page(None).data == (consent,)


def test_places_share_a_cache_folder_but_no_cache(tmp_path: Path) -> None:
    one, two = (
        open_voices(f"file://{tmp_path}/{name}", tmp_path / "cache", StoreLimits())
        for name in ("one", "two")
    )
    voice = one.add(draft(), prompt())
    one.samples(voice)
    cached = sorted((tmp_path / "cache").rglob("voice_*/*"))
    two.add(draft(), prompt())
    assert cached
    assert all(path.exists() for path in cached)


def test_url_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("voices.remote", "voices.commits"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StoreUnavailable, match=r"pip install obstore"):
        open_voices("s3://bucket/voices", tmp_path, StoreLimits())


def test_default_places_are_the_user_s(tmp_path: Path) -> None:
    environ = {"XDG_DATA_HOME": str(tmp_path / "data"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert default_place(environ) == str(tmp_path / "data" / "rhapsode")
    assert default_cache(environ) == tmp_path / "cache" / "rhapsode"
    assert default_place({}) == str(Path.home() / ".local/share/rhapsode")


@pytest.mark.parametrize("field", StoreLimits.__struct_fields__)
def test_limit_below_one_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        StoreLimits(**{field: 0})
