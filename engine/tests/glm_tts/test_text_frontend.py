import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.glm_tts.chinese import numeral
from engine.glm_tts.normalize import normalize
from engine.glm_tts.text_frontend import TextFrontEnd
from engine.glm_tts.verbalize import NONE, Verbalizers, load_verbalizers
from engine.tests.glm_tts.goldens import GOLDENS

_CASES: list[tuple[str, str]] = json.loads((GOLDENS / "text_frontend.json").read_text())[
    "normalize"
]

# Where the original loses something, by its input: what ours gives, and why.
_DEPARTURES = {
    "He said: you're late--aren't you?!  It's 25 degrees.": (
        "he said: you're late aren't you? it's twenty five degrees.",
        "dropped hyphens ran words together, and a question lost its mark",
    ),
    "x * y and [note] (aside) “quoted”—dash": (
        "x times y and note aside quoted dash.",
        "three words ran together",
    ),
}
_TEXT = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from("abZ 09.,!?;:'’\"-*^#|<>~/\\\n。，！？：、额咯—…²①éがカ한한क्ि你好的一😀🏽️‍"),
    ),
    max_size=60,
)


def said(text: str, front_end: TextFrontEnd) -> list[str]:
    return [piece.text for piece in front_end.pieces(text)]


@pytest.fixture(scope="module")
def front_end() -> TextFrontEnd:
    return TextFrontEnd()


@pytest.fixture(scope="module")
def spelt() -> Verbalizers:
    return load_verbalizers()


@pytest.mark.parametrize(("text", "expected"), _CASES)
def test_text_is_read_as_the_original_reads_it(text: str, expected: str) -> None:
    assert normalize(text, NONE) == _DEPARTURES.get(text, (expected, ""))[0]


def test_every_departure_is_one() -> None:
    for text, (ours, _) in _DEPARTURES.items():
        assert dict(_CASES)[text] != ours


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Café au lait, s’il vous plaît.", "café au lait, s'il vous plaît."),
        ("привет, мир!", "привет, мир."),
        ("한국어 문장 입니다", "한국어 문장 입니다."),
        ("हिन्दी में", "हिन्दी में."),
        ("ひらがな。カタカナ！", "ひらがな.カタカナ."),
        ("日本語のテスト。", "日本語のテスト。"),
        ("cafe\u0301 x", "cafe\u0301 x."),
    ],
)
def test_other_languages_keep_their_letters_and_spaces(text: str, expected: str) -> None:
    assert normalize(text, NONE) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("and/or", "and or."),
        ("hi😀there", "hi there."),
        ("wait…what", "wait. what."),
        ("the students' books", "the students books."),
        ("1. First\n2. Second", "one. first. two. second."),
        ("first，second。third", "first, second. third."),
        ("*emph* and **bold**", "emph and bold."),
        ("# Title\ntext\n## Next", "title. text. next."),
        ("9" * 37, "nine " * 36 + "nine."),
    ],
)
def test_english_words_stay_apart(text: str, expected: str) -> None:
    assert normalize(text, NONE) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("他说don't", "他说don't。"),
        ("气温-5度", "气温负5度。"),
        ("2024-05-03去", "2024年5月3日去。"),
        ("电话010-12345678", "电话01012345678。"),
        ("3-5天，3~5天", "3到5天，3到5天。"),
        ("2万-3万元", "2万到3万元。"),
        ("结果 5-3的", "结果5减3的。"),
        ("你好 - 世界", "你好，世界。"),
        ("2*10^3和3x10^-5", "二乘十的三次方和三乘十的负五次方。"),
        ("好？！走", "好？走。"),
    ],
)
def test_chinese_signs_with_a_meaning_are_read(text: str, expected: str) -> None:
    assert normalize(text, NONE) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [("0", "零"), ("10", "十"), ("12", "十二"), ("105", "一百零五"), ("10500", "一万零五百"),
     ("100000", "十万"), ("10.05", "十点零五"), ("-7", "负七"), ("100000001", "一亿零一"),
     ("1234567890123", "一二三四五六七八九零一二三")],
)  # fmt: skip
def test_numerals(number: str, expected: str) -> None:
    assert numeral(number) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("On May 3rd, 2024 it cost $12.50.",
         "on may third, twenty twenty four it cost twelve point five dollars."),
        ("Dr. Smith took 10% of No. 5 at 3:30 pm",
         "doctor smith took ten percent of number five at three thirty pm."),
        ("5 * 3 and 5*3", "five times three and five times three."),
        ("é3", "é three."),
        ("今天是2024-05-03，25.5℃。", "今天是二零二四年五月三日，二十五点五摄氏度。"),
        ("ＡＢ３，（ｘ）好", "ab三，x好。"),
        ("占10%，共3/4，下午3:30", "占百分之十，共四分之三，下午三点三十分。"),
    ],
)  # fmt: skip
def test_numbers_dates_and_units_become_words(text: str, expected: str, spelt: Verbalizers) -> None:
    assert normalize(text, spelt) == expected


@pytest.mark.parametrize(
    "text", ["This is one. That is Fine, isn’t it? We know; “yes”: she left!", "a tv in may"]
)
def test_the_grammar_changes_nothing_in_prose_that_it_is_not_asked_about(text: str) -> None:
    from wetext import Normalizer

    assert Normalizer(lang="en", operator="tn").normalize(text) == text
    assert load_verbalizers().english(text) == text


@pytest.mark.parametrize(
    "text", ["", " \n", "😀👩‍🦰", "...!?", "。。。", "*** -- “”", "❤︎", "-" * 4000]
)
def test_a_text_without_anything_to_say_has_no_pieces(text: str, front_end: TextFrontEnd) -> None:
    assert said(text, front_end) == []


def test_each_piece_ends_and_is_read_by_its_own_language(front_end: TextFrontEnd) -> None:
    chinese = "今天我们要讲的是一个关于语音合成的故事，它发生在很久以前的一个小镇上，"
    english = "and it was told to everybody who came, again and again."
    assert said(chinese + chinese + english, front_end) == [
        "今天我们要讲的是一个关于语音合成的故事，它发生在很久以前的一个小镇上。",
        "今天我们要讲的是一个关于语音合成的故事，它发生在很久以前的一个小镇上。",
        "and it was told to everybody who came, again and again.",
    ]


def test_a_prompt_is_one_text_with_a_space_after_it(front_end: TextFrontEnd) -> None:
    assert front_end.prompt("Hello there!\nIt's me") == "hello there. it's me. "


def test_control_characters_are_space(front_end: TextFrontEnd) -> None:
    assert said("cafe\u0301\ud800\0x\u2028y", front_end) == ["café x. y."]


def test_numbers_can_be_left_alone() -> None:
    assert said("占10%", TextFrontEnd(normalize_numbers=False)) == ["占10%。"]


@settings(max_examples=150, deadline=None)
@given(text=_TEXT)
def test_any_text_gives_pieces_of_one_line_that_end(text: str, front_end: TextFrontEnd) -> None:
    for piece in said(text, front_end):
        assert piece[-1] in ".。?？"
        assert any(char.isalnum() for char in piece)
        assert piece == piece.strip()
        assert not re.search(r"[|\n#]|  ", piece)


@settings(max_examples=200, deadline=None)
@given(text=_TEXT)
def test_no_letter_beyond_ascii_is_lost(text: str) -> None:
    letters = re.findall(r"[а-яぁ-ん가-힣]", text + "яんか한")
    assert re.findall(r"[а-яぁ-ん가-힣]", normalize(text + "яんか한", NONE)) == letters
