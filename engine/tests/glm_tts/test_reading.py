"""A text is read as its pieces are asked for, and is the text that it would be, read at once."""

from __future__ import annotations

import re
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.glm_tts import normalize as normalizing
from engine.glm_tts import split
from engine.glm_tts.normalize import normalize, stretches
from engine.glm_tts.text_frontend import TextFrontEnd
from engine.glm_tts.verbalize import NONE, Verbalize, Verbalizers, clauses

_NO_SEAM = re.compile("(?!)")
_WORDS = (
    *(
        "the",
        "Was",
        "Dr.",
        "No.",
        "NASA",
        "it's",
        "$12.50",
        "10%",
        "3:30",
        "2024-05-03",
        "1,234,567",
    ),
    *(
        "-5",
        "me@x.com",
        "https://example.com/a?b=1&c=2",
        "*",
        "#",
        "(x)",
        "/",
        "\\n",
        "<|SH|>",
        " ",
    ),
    *(
        "😀",
        "👩‍🦰",
        "1️⃣",
        "²",
        "½",
        "①",
        "café",
        "cafe\u0301",
        "ΑΣ",
        "Σ.Α",
        "İx",
        "α",
        "привет",
        "हिन्दी",
    ),
    *(
        "क्ि",
        "한국어",
        "ひら",
        "カタ",
        "ｶﾅ",
        "ㄅㄆ",
        "العربية",
        "١٢٣",
        "ไทย",
        "今天",
        "我们",
        "额",
        "额头",
    ),
    *(
        "咯",
        "一",
        "2024年5月3日",
        "25.5℃",
        "3/4",
        "3~5天",
        "-5度",
        "2*10^3",
        "·",
        "—",
        "～",
        "…",
        "ＡＢ３",
    ),
    *(".", ",", "!", "?", ":", "。", "，", "！", "？", "、", "。？", "?。"),
)
_TEXT = st.builds(
    str.join,
    st.sampled_from(["", " ", "  ", "\n"]),
    st.lists(st.one_of(st.sampled_from(_WORDS), st.integers(0, 10**9).map(str)), max_size=80),
)
_PROSE = "The harbour was quiet, and a single lamp burned above the door. " * 40
_TEXTS = {
    "prose": _PROSE,
    "chinese": "今天我们要讲的是一个关于语音合成的故事，它发生在很久以前的一个小镇上。" * 20,
    "read by its neighbours": "有名额，额，好多名额。" * 30,
    "mixed": "他说don't worry，it costs $12.50。额，好的 OK? " * 20,
    "digits": " ".join(map(str, range(98_000, 98_200))),
    "chinese digits": "共1234567元，占12.5%，2024-05-03，" * 30,
    "no marks": "lamp " * 300,
    "no marks in Chinese": "灯" * 500,
    "no spaces": "x" * 1500,
    "addresses": "see https://www.example.com/a/b?c=1&d=2 or mail me@example.com, " * 20,
    "spaces": " " * 500,
    "combining": "e\u0301\u0301 क्ि " * 150,
    "signs": "** -- ## // " * 80,
    "lines": "# Title\n1. one\n\n2. two\n- three\n" * 30,
    "kana": "ひらがなです。123カタカナ！" * 40,
    "names": "Mr. Li met NASA's Dr. O'Neil in St. Ives at 3:30 pm. " * 20,
}


@pytest.fixture(scope="module")
def front_end() -> TextFrontEnd:
    return TextFrontEnd()


def _at_once(text: str, front_end: TextFrontEnd) -> list[str]:
    with patch.object(normalizing, "_SEAM", _NO_SEAM):
        return [piece.text for piece in front_end.pieces(text)]


@pytest.mark.parametrize("name", _TEXTS)
def test_pieces_are_those_of_a_text_read_at_once(name: str, front_end: TextFrontEnd) -> None:
    text = _TEXTS[name]
    assert [piece.text for piece in front_end.pieces(text)] == _at_once(text, front_end)


@settings(max_examples=150, deadline=None)
@given(text=_TEXT)
def test_any_text_is_read_as_at_once(text: str, front_end: TextFrontEnd) -> None:
    assert [piece.text for piece in front_end.pieces(text)] == _at_once(text, front_end)


@given(text=_TEXT)
def test_clauses_joined_are_the_text(text: str) -> None:
    assert "".join(clauses(text)) == text
    assert all(clauses(text))


@given(text=_TEXT)
def test_shares_begin_at_none_and_never_fall(text: str) -> None:
    shares = [piece.before for piece in split.pieces(stretches(text, NONE))]
    assert shares == sorted(shares)
    assert shares[:1] in ([], [0.0])
    assert all(share < 1 for share in shares)


def test_a_share_is_never_more_than_what_is_before() -> None:
    # Its normal form is as long as the text, so that the true share is known.
    text = normalize(_PROSE, NONE)
    shares, spoken = [], 0
    for piece in split.pieces(stretches(text, NONE)):
        assert spoken / len(text) - 0.1 < piece.before <= spoken / len(text)
        shares.append(piece.before)
        spoken += len(piece.text)
    assert len(set(shares)) == len(shares) > 10


@pytest.mark.parametrize(
    "name", ["prose", "chinese", "mixed", "digits", "chinese digits", "no marks", "names"]
)
def test_a_piece_asks_the_grammar_for_little_more_than_itself(
    name: str, front_end: TextFrontEnd
) -> None:
    read: list[str] = []

    def counted(verbalize: Verbalize) -> Verbalize:
        def count(clause: str) -> str:
            read.append(clause)
            return verbalize(clause)

        return count

    known = front_end._verbalizers
    verbalizers = Verbalizers(counted(known.chinese), counted(known.english))
    longest, before = 0, 0
    for _ in split.pieces(stretches(_TEXTS[name], verbalizers)):
        now = sum(map(len, read))
        longest, before = max(longest, now - before), now
    # 60 syllables, the clause that goes beyond them, and the next, as a stretch ends in it.
    assert longest < 600
    assert longest < before / 2
