"""The store keeps what it was given, for whom it was given, wherever it lies."""

from __future__ import annotations

import numpy as np
import pytest

from voices import errors, flac
from voices.limits import StoreLimits
from voices.names import is_id
from voices.profile import VoiceDraft, VoiceEdit
from voices.store import VoiceStore
from voices.tests.samples import RATE, Place, draft, noise, prompt


def names(store: VoiceStore, owner: str | None = None) -> list[str]:
    return [voice.name for voice in store.voices(owner)]


def test_voice_comes_back_as_it_was_given(place: Place) -> None:
    given = VoiceDraft(
        name="  Zoë  Müller ",
        owner="key",
        language="de-CH",
        prompt_text="Grüezi, 你好.",
        text_source="transcribed",
        text_engine="whisper",
        text_confidence=0.75,
        consent_id="cons_1",
        description="warm\nlow",
    )
    added = place.store().add(given, prompt(seed=3))
    found = place.store().get(added.id, "key")
    assert found == added
    assert is_id(found.id, "voice")
    assert (found.name, found.language, found.prompt_text) == (
        "Zoë Müller",
        "de-CH",
        "Grüezi, 你好.",
    )
    assert (found.text_engine, found.text_confidence, found.consent_id) == (
        "whisper",
        0.75,
        "cons_1",
    )
    assert found.report.warnings == ("too short for anything but a test",)


def test_samples_come_back_at_their_own_rate_to_the_last_bit(place: Place) -> None:
    added = place.store().add(draft(), prompt(rate=44_100))
    samples, rate = place.store().samples(added)
    assert rate == added.sample_rate == 44_100
    np.testing.assert_array_equal(samples, flac.to_samples(flac.to_pcm16(noise(0.1, 44_100))))
    assert flac.digest(flac.to_pcm16(samples), rate) == added.sample_digest
    assert added.duration_s == pytest.approx(0.1)


def test_digest_is_of_the_sound_and_the_rate_not_of_the_voice(store: VoiceStore) -> None:
    one, same, other = (
        store.add(draft(name), prompt(seed, rate=rate))
        for name, seed, rate in (("a", 1, RATE), ("b", 1, RATE), ("c", 2, RATE))
    )
    assert one.sample_digest == same.sample_digest != other.sample_digest
    pcm = flac.to_pcm16(noise(0.1))
    assert flac.digest(pcm, 24_000) != flac.digest(pcm, 48_000)


def test_voice_is_found_by_name_in_any_case_and_form(store: VoiceStore) -> None:
    added = store.add(draft("Zoë"), prompt())
    assert store.get("ZOË", None) == added
    assert store.get("zoe\u0308", None) == added


@pytest.mark.parametrize(
    "key", ["", "nobody", "../Anna", "voice_", "a" * 100_000, "\ud800", "\0", "voice_" + "0" * 26]
)
def test_what_is_not_there_is_not_found(store: VoiceStore, key: str) -> None:
    store.add(draft(), prompt())
    with pytest.raises(errors.VoiceNotFound) as caught:
        store.get(key, None)
    assert caught.value.param == "voice"
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["Anna", "ANNA", " anna ", "\uff21nna"])
def test_name_is_given_once_to_an_owner(place: Place, name: str) -> None:
    store = place.store()
    first = store.add(draft("Anna", "key"), prompt())
    with pytest.raises(errors.NameTaken):
        place.store().add(draft(name, "key"), prompt(seed=1))
    assert store.voices("key") == [first]
    store.add(draft(name, "other key"), prompt())
    assert len(store.voices(None)) == 2


@pytest.mark.parametrize("name", ["", "a" * 10_000, "../x", "..", "a\0b", "a\u200bb", "a\u202eb"])
def test_bad_name_is_refused_and_changes_nothing(store: VoiceStore, name: str) -> None:
    added = store.add(draft(), prompt())
    with pytest.raises(errors.BadName) as caught:
        store.add(draft(name), prompt())
    with pytest.raises(errors.BadName):
        store.update(added.id, None, VoiceEdit(name=name))
    assert caught.value.param == "name"
    assert store.voices(None) == [added]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        (VoiceDraft(name="a", language="english, please"), "language"),
        (VoiceDraft(name="a", prompt_text="a" * 4001), "prompt_text"),
        (VoiceDraft(name="a", description="\udfff"), "description"),
    ],
)
def test_bad_field_is_refused_by_its_name(store: VoiceStore, given: VoiceDraft, param: str) -> None:
    with pytest.raises(errors.BadRequest) as caught:
        store.add(given, prompt())
    assert caught.value.param == param
    assert store.voices(None) == []


def test_edit_changes_only_what_it_names(place: Place) -> None:
    store = place.store()
    added = store.add(draft(), prompt())
    edited = store.update("anna", None, VoiceEdit(name="Berta", language="de"))
    assert (edited.id, edited.name, edited.language) == (added.id, "Berta", "de")
    assert edited.prompt_text == added.prompt_text
    assert place.store().voices(None) == [edited]
    assert store.samples(edited)[1] == RATE


def test_text_from_a_person_replaces_the_transcript_and_its_doubts(store: VoiceStore) -> None:
    heard = VoiceDraft(
        name="Anna",
        prompt_text="Hello",
        text_source="transcribed",
        text_engine="x",
        text_confidence=0.3,
    )
    store.add(heard, prompt())
    edited = store.update("Anna", None, VoiceEdit(prompt_text="Hallo"))
    assert (edited.prompt_text, edited.text_source) == ("Hallo", "given")
    assert (edited.text_engine, edited.text_confidence, edited.text_is_reliable) == (
        None,
        None,
        True,
    )


def test_new_name_must_be_free_and_frees_the_old_one(store: VoiceStore) -> None:
    store.add(draft("Anna"), prompt())
    berta = store.add(draft("Berta"), prompt())
    with pytest.raises(errors.NameTaken):
        store.update("Berta", None, VoiceEdit(name="anna"))
    assert store.get("Berta", None) == berta
    assert store.update("Berta", None, VoiceEdit(name="BERTA")).name == "BERTA"
    store.update("Berta", None, VoiceEdit(name="Cara"))
    store.add(draft("Berta"), prompt())
    assert names(store) == ["Anna", "Cara", "Berta"]


def test_removed_voice_is_gone_for_all_and_its_name_free(place: Place) -> None:
    store, other = place.store(), place.store()
    added = store.add(draft(), prompt())
    assert other.get("Anna", None) == added
    assert store.remove("Anna", None) == added
    with pytest.raises(errors.VoiceNotFound):
        other.remove(added.id, None)
    assert other.voices(None) == []
    assert store.add(draft(), prompt()).id != added.id


def test_voice_removed_while_it_speaks_is_spoken_to_the_end(place: Place) -> None:
    store = place.store()
    added = store.add(draft(), prompt())
    samples, _ = store.samples(added)
    place.store().remove(added.id, None)
    np.testing.assert_array_equal(samples, flac.to_samples(flac.to_pcm16(noise(0.1))))
    with pytest.raises(errors.VoiceNotFound):
        store.samples(added)
    with pytest.raises(errors.VoiceNotFound):
        store.audio(added)
    assert store.faults() == []


def test_owner_sees_own_and_shared_voices_and_changes_only_own(store: VoiceStore) -> None:
    own = store.add(draft("Anna", "key"), prompt())
    shared = store.add(draft("Berta"), prompt())
    foreign = store.add(draft("Cara", "other"), prompt())
    assert store.voices("key") == [own, shared]
    assert store.voices(None) == [own, shared, foreign]
    with pytest.raises(errors.VoiceNotFound):
        store.get(foreign.id, "key")
    with pytest.raises(errors.VoiceNotFound):
        store.remove("Cara", "key")
    with pytest.raises(errors.NotOwner):
        store.remove("Berta", "key")
    with pytest.raises(errors.NotOwner):
        store.update(shared.id, "key", VoiceEdit(name="Mine"))
    assert store.voices(None) == [own, shared, foreign]
    store.remove("Anna", "key")
    store.remove("Cara", None)
    assert names(store) == ["Berta"]


def test_own_voice_goes_before_a_shared_one_of_its_name(store: VoiceStore) -> None:
    shared = store.add(draft("Anna"), prompt())
    own = store.add(draft("Anna", "key"), prompt())
    assert store.get("anna", "key") == own
    assert store.get("anna", "other") == shared
    assert store.get("anna", None) == shared


def test_limits_hold_and_change_nothing(place: Place) -> None:
    size_bytes = place.store().add(draft("first", "key"), prompt()).size_bytes
    small = place.store(StoreLimits(recording_bytes=size_bytes - 1))
    with pytest.raises(errors.TooLarge) as caught:
        small.add(draft("second", "key"), prompt())
    assert caught.value.param == "audio_sample"
    few = place.store(StoreLimits(per_owner=1))
    with pytest.raises(errors.TooMany):
        few.add(draft("second", "key"), prompt())
    full = place.store(StoreLimits(total_bytes=2 * size_bytes - 1))
    with pytest.raises(errors.StoreFull):
        full.add(draft("second", "other"), prompt())
    assert names(full) == ["first"]
    few.add(draft("second", "other"), prompt())
    assert names(full) == ["first", "second"]


def test_voices_are_listed_by_age(place: Place) -> None:
    for name in ("c", "a", "b"):
        place.store().add(draft(name), prompt())
    assert names(place.store()) == ["c", "a", "b"]


def test_exported_voice_is_imported_whole(place: Place) -> None:
    store = place.store()
    added = store.add(draft(owner="key"), prompt(seed=5))
    features = {"glm-tts.safetensors": b"\0" * 100}
    data = store.export(added, features)
    with pytest.raises(errors.NameTaken):
        store.import_(data, "key")
    imported = store.import_(data, "key", name="Anna again")
    voice = imported.voice
    assert voice.sample_digest == added.sample_digest
    assert voice.id != added.id
    assert (voice.prompt_text, voice.report) == (added.prompt_text, added.report)
    assert imported.features == features
    np.testing.assert_array_equal(store.samples(voice)[0], store.samples(added)[0])
    again = store.export(voice, features)
    store.remove(voice.id, "key")
    assert store.import_(again, None).voice.sample_digest == added.sample_digest
