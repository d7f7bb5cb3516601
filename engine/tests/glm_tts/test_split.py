import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.glm_tts.split import length, split, units
from engine.tests.glm_tts.goldens import GOLDENS

_GOLDENS = json.loads((GOLDENS / "text_frontend.json").read_text())
_TEXT = st.text(
    st.one_of(st.characters(), st.sampled_from("ab '-,.!?。，你好のé한 ")), max_size=300
)


def _length(text: str) -> float:
    return sum(map(length, units(text)))


@pytest.mark.parametrize(
    ("text", "pieces"), [case for case in _GOLDENS["split"] if isinstance(case[1], list)]
)
def test_text_is_cut_where_the_original_cuts_it(text: str, pieces: list[str]) -> None:
    assert split(text) == pieces


def test_where_the_original_fails_long_words_are_cut_by_their_length() -> None:
    (text,) = (text for text, pieces in _GOLDENS["split"] if isinstance(pieces, str))
    pieces = split(text)
    assert "".join(pieces) == text
    assert [round(_length(piece), 1) for piece in pieces] == [59.5, 59.5, 49.0]


@pytest.mark.parametrize(("text", "expected", "total"), _GOLDENS["units"])
def test_units_and_their_length(text: str, expected: list[str], total: float) -> None:
    assert units(text) == expected
    assert _length(text) == pytest.approx(total)


@given(_TEXT)
def test_pieces_joined_are_the_text(text: str) -> None:
    assert "".join(split(text)) == text


@given(_TEXT)
def test_no_piece_is_longer_than_sixty_without_the_marks_at_its_end(text: str) -> None:
    for piece in split(text):
        assert _length(piece.rstrip("。？！；：、，.?!;:, \n\t")) <= 60.001


def test_a_mark_stays_with_the_text_that_it_ends() -> None:
    assert split("字" * 60 + "。") == ["字" * 60 + "。"]


def test_kana_hangul_and_words_beyond_ascii_count_what_is_said() -> None:
    assert _length("ひらがな") == 4
    assert _length("한국어") == 3
    assert _length("café") == pytest.approx(1.4)
    assert len(split("ひ" * 150)) == 3


def test_a_word_without_an_end_is_cut() -> None:
    assert max(map(len, split("x" * 2000))) < 500
