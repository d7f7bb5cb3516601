import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text import clean, ends_clause, script_of, script_runs, split, tokens, weight

_MIXED = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from('abc .,;!?\n"(»、。世界かなќה한👩‍🦰🏽\u0301\u0308'),
    ),
    max_size=300,
)


@given(_MIXED, st.integers(1, 60))
def test_pieces_joined_are_the_text(text: str, limit: int) -> None:
    assert "".join(split(text, limit)) == text


@given(_MIXED, st.integers(8, 60))
def test_no_piece_outweighs_the_limit(text: str, limit: int) -> None:
    assert all(sum(map(weight, piece)) <= limit for piece in split(text, limit))


@given(st.lists(st.sampled_from("ab \u0301\u0308क्षि"), max_size=200).map("".join))
def test_no_mark_is_torn_from_its_base_where_a_cut_can_be_elsewhere(text: str) -> None:
    limit = 12
    pieces = split(text, limit)
    for before, after in itertools.pairwise(pieces):
        if unicodedata.category(after[0]).startswith("M"):
            # Only a base with more marks than fit leaves no other place.
            assert all(unicodedata.category(char).startswith("M") for char in before[1:])


def test_emoji_of_several_characters_stay_whole() -> None:
    family = "👨‍👩‍👧‍👦"
    assert all(len(piece) % len(family) == 0 for piece in split(family * 40, 30))


def test_cuts_prefer_sentences_then_clauses_then_spaces() -> None:
    assert split("One two. Three, four five six", 22) == ["One two. ", "Three, four five six"]
    assert split("One two three, four five six", 22) == ["One two three, ", "four five six"]
    assert split("One two three four five six", 22) == ["One two three four ", "five six"]
    assert split("onetwothreefour", 6) == ["onetwo", "threef", "our"]


def test_decimals_and_times_are_not_sentence_ends() -> None:
    assert split("it is 3.14, or 10:30 now", 19) == ["it is 3.14, ", "or 10:30 now"]


@given(_MIXED)
def test_runs_joined_are_the_text(text: str) -> None:
    assert "".join(run.text for run in script_runs(text)) == text


@given(_MIXED)
def test_neighbouring_runs_differ_in_script(text: str) -> None:
    scripts = [run.script for run in script_runs(text)]
    assert all(one != other for one, other in itertools.pairwise(scripts))


def test_mixed_text_is_cut_into_runs_of_one_script() -> None:
    runs = [(run.text, run.script) for run in script_runs("Hello 世界, 12 (привет) мир!")]
    assert runs == [("Hello ", "Latn"), ("世界, 12 ", "Hani"), ("(привет) мир!", "Cyrl")]


def test_han_is_japanese_as_soon_as_there_is_kana() -> None:
    assert [run.script for run in script_runs("東京")] == ["Hani"]
    assert [run.script for run in script_runs("東京タワー, Tokyo, 大阪です")] == [
        "Jpan",
        "Latn",
        "Jpan",
    ]


def test_text_without_letters_is_one_run_of_no_script() -> None:
    assert [(run.text, run.script) for run in script_runs("12, 34!")] == [("12, 34!", None)]


@pytest.mark.parametrize(
    ("char", "script"),
    [("é", "Latn"), ("Ａ", "Latn"), ("ｶ", "Jpan"), ("ー", "Jpan"), ("々", "Hani"), ("٣", "Arab"),
     ("한", "Hang"), ("ß", "Latn"), ("7", None), ("µ", None), ("😀", None), ("́", None)],
)  # fmt: skip
def test_script_of_a_character(char: str, script: str | None) -> None:
    assert script_of(char) == script


@given(_MIXED)
def test_clean_text_is_encodable_and_has_no_control_characters(text: str) -> None:
    cleaned = clean(text + "\0\ud800\x1b\u202e\u2028")
    assert cleaned.encode()
    assert {unicodedata.category(char) for char in cleaned if char != "\n"}.isdisjoint(
        {"Cc", "Cs", "Zl", "Zp"}
    )


def test_clean_keeps_what_is_spoken() -> None:
    assert clean("cafe\u0301\tau\u00ad\ufeff lait\0!") == "café au lait !"
    assert clean("👩\u200d🦰 می\u200cخواهم") == "👩\u200d🦰 می\u200cخواهم"


def test_tokens_are_words_without_surrounding_punctuation() -> None:
    text = "“Don't!” — 3.14 you're (e-mail) 你好，世界。 ..."
    assert [token.text for token in tokens(text)] == [
        "Don't", "3.14", "you're", "e-mail", "你好", "世界"
    ]  # fmt: skip


@given(_MIXED)
def test_a_token_is_where_it_says(text: str) -> None:
    found = tokens(text)
    assert all(token.text in text[token.start : token.end] for token in found)
    ends = [0, *(token.end for token in found)]
    assert all(end <= token.start for end, token in zip(ends, found, strict=False))


@pytest.mark.parametrize("text", ["Yes.", "yes, ", "好。", "“Yes!” ", "why?)", "Title\n\n"])
def test_a_speaker_pauses_after(text: str) -> None:
    assert ends_clause(text)


@pytest.mark.parametrize("text", ["yes", "3.14", "yes (", "Title\n", ""])
def test_a_speaker_goes_on_after(text: str) -> None:
    assert not ends_clause(text)
