"""Names are readable and ids are ours: whatever is given, neither leaves its folder."""

from __future__ import annotations

import unicodedata
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voices import names
from voices.errors import BadLanguage, BadName
from voices.names import (
    NAME_CHARS,
    check_language,
    check_name,
    id_time_ms,
    is_id,
    name_key,
    new_consent_id,
    new_ulid,
    new_voice_id,
)

ANY_TEXT = st.text(st.characters(), max_size=150)


@given(ANY_TEXT)
def test_name_that_passes_is_readable_and_stays_as_it_is(text: str) -> None:
    with suppress(BadName):
        name = check_name(text)
        assert 1 <= len(name) <= NAME_CHARS
        assert name == unicodedata.normalize("NFC", name).strip()
        assert not any(
            unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in name
        )
        assert Path(name).name == name
        assert check_name(name) == name
        assert name_key(text) == name_key(name)


@given(ANY_TEXT)
def test_key_of_a_name_is_stable_and_blind_to_case(text: str) -> None:
    key = name_key(text)
    assert name_key(key) == key
    assert name_key(text.swapcase().swapcase()) == name_key(text.swapcase().swapcase().casefold())


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=NAME_CHARS // 4))
def test_letters_and_digits_of_any_script_are_a_name(text: str) -> None:
    if not set(unicodedata.normalize("NFC", text)) & names._BLANK:
        assert check_name(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    "name", ["O'Neill", "小明 (2)", "voice_1", "Zoë 🎙️", "a.b", "...a", "cons_"]
)
def test_ordinary_name_passes(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "\u3000", ".", "..", "...", ". .", "a/b", "a\\b", "/etc/passwd", "../../x"),
        *(
            "a\nb",
            "a\tb",
            "a\0",
            "\x7f",
            "\x85",
            "a\u200bb",
            "\u200d",
            "\ufeffa",
            "a\u202eb",
            "\u2066a",
        ),
        *("\u2028", "\ud800", "\ue000", "\u3164", "a\u2800", "\u00ad", "\U000e0041"),
        *("a" * 101, "a" * 10_000, "\u0316\u0300" * 1_000_000),
        *("voice_01JD0000000000000000000000", "VOICE_01jd0000000000000000000000"),
        "cons_01JD0000000000000000000000",
    ],
    ids=lambda name: ascii(name)[:40],
)
def test_name_that_nobody_can_read_or_trust_is_refused(name: str) -> None:
    with pytest.raises(BadName):
        check_name(name)


@given(st.text())
def test_text_is_an_id_only_if_it_is_a_safe_file_name(text: str) -> None:
    for id_or_not in (text, f"voice_{text}", f"{new_voice_id()}{text}"[: 32 + len(text)]):
        if is_id(id_or_not, "voice"):
            assert Path(id_or_not).name == id_or_not
            assert id_or_not.isascii()
            assert len(id_or_not) == 32


def test_ids_rise_and_never_repeat_in_any_number_of_threads() -> None:
    with ThreadPoolExecutor(4) as pool:
        many = list(pool.map(lambda _: [new_ulid() for _ in range(2000)], range(4)))
    assert all(each == sorted(each) for each in many)
    assert len({ulid for each in many for ulid in each}) == 8000


def test_ids_rise_when_the_clock_runs_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = new_voice_id()
    monkeypatch.setattr("time.time_ns", lambda: 1_000_000)
    assert new_voice_id() > before


def test_id_tells_its_kind_and_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_clock", names._UlidClock())
    monkeypatch.setattr("time.time_ns", lambda: 1_734_220_800_123 * 1_000_000)
    assert id_time_ms(new_voice_id()) == 1_734_220_800_123
    assert is_id(new_consent_id(), "cons")
    assert not is_id(new_consent_id(), "voice")
    assert not is_id(new_voice_id().lower(), "voice")
    assert not is_id(new_voice_id() + "\n", "voice")


@pytest.mark.parametrize("tag", ["en", "pt-BR", "zh-Hant-TW", "yue", "x-custom"][:4])
def test_language_tag_passes(tag: str) -> None:
    assert check_language(tag) == tag


@pytest.mark.parametrize(
    "tag", ["", "e", "english language", "en_US", "../en", "en-", "en\n", "é" * 9]
)
def test_other_text_is_no_language_tag(tag: str) -> None:
    with pytest.raises(BadLanguage):
        check_language(tag)
