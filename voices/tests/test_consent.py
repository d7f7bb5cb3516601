"""Consents: kept as they came, listed page by page."""

from __future__ import annotations

import pytest

from voices import errors
from voices.consent import CONSENTS, ConsentStore, VoiceConsent
from voices.limits import StoreLimits
from voices.names import is_id
from voices.tests.samples import Place


def consents(place: Place, limits: StoreLimits | None = None) -> ConsentStore:
    return ConsentStore(place.shelf(VoiceConsent, CONSENTS), limits or StoreLimits())


def add(store: ConsentStore, name: str = "Anna", owner: str | None = None) -> VoiceConsent:
    return store.add(name, "en-GB", b"RIFF, as it came", "audio/wav", owner)


def test_consent_comes_back_as_it_was_given(place: Place) -> None:
    added = add(consents(place), " Anna ", "key")
    store = consents(place)
    found = store.get(added.id, "key")
    assert found == added
    assert is_id(found.id, "cons")
    assert (found.name, found.language, found.media_type) == ("Anna", "en-GB", "audio/wav")
    assert store.recording(found) == b"RIFF, as it came"


def test_pages_cover_the_list_once_newest_first(place: Place) -> None:
    store = consents(place)
    ids = [add(store).id for _ in range(7)]
    seen: list[str] = []
    sizes = []
    after, has_more = None, True
    while has_more:
        page = store.page(None, limit=3, after=after)
        seen += [consent.id for consent in page.data]
        sizes.append(len(page.data))
        after, has_more = seen[-1], page.has_more
    assert seen == ids[::-1]
    assert sizes == [3, 3, 1]


def test_last_page_that_is_full_has_no_more(place: Place) -> None:
    store = consents(place)
    for _ in range(2):
        add(store)
    assert not store.page(None, limit=2).has_more
    assert store.page(None, limit=1).has_more
    empty = store.page("nobody")
    assert (empty.data, empty.has_more) == ((), False)


def test_page_goes_on_after_a_consent_that_was_removed(place: Place) -> None:
    store = consents(place)
    ids = [add(store).id for _ in range(3)]
    store.remove(ids[1], None)
    assert [consent.id for consent in store.page(None, after=ids[1]).data] == [ids[0]]


@pytest.mark.parametrize("limit", [0, 101, -1])
def test_page_of_no_size_is_refused(place: Place, limit: int) -> None:
    with pytest.raises(errors.BadPage) as caught:
        consents(place).page(None, limit=limit)
    assert caught.value.param == "limit"


def test_owners_see_only_their_consents(place: Place) -> None:
    store = consents(place)
    own, other = add(store, owner="key"), add(store, owner="other")
    assert store.page("key").data == (own,)
    assert len(store.page(None).data) == 2
    with pytest.raises(errors.ConsentNotFound):
        store.get(other.id, "key")
    with pytest.raises(errors.ConsentNotFound):
        store.rename(other.id, "key", "Mine")
    with pytest.raises(errors.ConsentNotFound):
        store.remove(other.id, "key")
    assert consents(place).get(other.id, "other") == other


def test_renamed_consent_keeps_its_recording(place: Place) -> None:
    store = consents(place)
    added = add(store)
    renamed = store.rename(added.id, None, "Berta")
    assert (renamed.id, renamed.name, renamed.created_at) == (added.id, "Berta", added.created_at)
    assert consents(place).recording(renamed) == b"RIFF, as it came"
    with pytest.raises(errors.BadName):
        store.rename(added.id, None, "")


def test_removed_consent_is_gone(place: Place) -> None:
    store = consents(place)
    added = add(store)
    store.remove(added.id, None)
    with pytest.raises(errors.ConsentNotFound):
        store.remove(added.id, None)
    with pytest.raises(errors.ConsentNotFound):
        store.recording(added)


def test_bad_consent_is_refused_and_changes_nothing(place: Place) -> None:
    store = consents(place, StoreLimits(recording_bytes=10))
    for name, language, recording, error in (
        ("", "en", b"x", errors.BadName),
        ("Anna", "?", b"x", errors.BadLanguage),
        ("Anna", "en", b"", errors.BadRecording),
        ("Anna", "en", b"x" * 11, errors.TooLarge),
    ):
        with pytest.raises(error):
            store.add(name, language, recording, "audio/wav", None)
    assert store.page(None).data == ()
