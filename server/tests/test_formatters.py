"""Every expectation is written by hand: nothing here computes what it expects."""

import pickle
import re

import pytest

from engine.types import Segment, SpokenWord
from server.formatters import SrtFormatter, VttFormatter, as_srt, as_text, as_vtt
from server.formatters.cues import cues_of
from server.formatters.lines import width, wrap


def lines_of(text: str, columns: int) -> list[str]:
    return [text[line.start : line.end] for line in wrap(text, columns)]


def vtt_text(text: str) -> str:
    """The lines of a text's only cue."""
    header, cue = as_vtt([Segment(0.0, 1.0, text)]).removesuffix("\n\n").split("\n\n")
    assert header == "WEBVTT"
    return cue.partition("\n")[2]


def test_text_is_the_texts_joined_and_a_newline() -> None:
    segments = [Segment(0.0, 1.0, " Hello there."), Segment(1.0, 2.0, " How are you? ")]
    assert as_text(segments) == "Hello there. How are you?\n"
    assert as_text([Segment(0.0, 1.0, "你好。"), Segment(1.0, 2.0, "再见。")]) == "你好。再见。\n"
    assert as_text([]) == "\n"


def test_srt_numbers_its_cues_from_one() -> None:
    segments = [Segment(0.0, 1.5, " Hello there."), Segment(1.5, 3.25, " How are you?")]
    assert as_srt(segments) == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello there.\n\n"
        "2\n00:00:01,500 --> 00:00:03,250\nHow are you?\n\n"
    )


def test_vtt_has_a_header_and_no_numbers() -> None:
    segments = [Segment(0.0, 1.5, " Hello there."), Segment(1.5, 3.25, " How are you?")]
    assert as_vtt(segments) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.500\nHello there.\n\n"
        "00:00:01.500 --> 00:00:03.250\nHow are you?\n\n"
    )


def test_nothing_said_is_an_empty_file_of_its_kind() -> None:
    assert as_srt([]) == ""
    assert as_vtt([]) == "WEBVTT\n\n"


def test_segments_without_text_leave_no_hole_in_the_numbers() -> None:
    texts = ["One.", "", " \n ", "Two."]
    srt = as_srt(Segment(start, start + 1.0, text) for start, text in enumerate(texts))
    assert srt == (
        "1\n00:00:00,000 --> 00:00:01,000\nOne.\n\n2\n00:00:03,000 --> 00:00:04,000\nTwo.\n\n"
    )


def test_a_formatter_gives_each_segments_cues_at_once() -> None:
    srt, vtt = SrtFormatter(), VttFormatter()
    assert srt.push(Segment(0.0, 1.0, "One.")) == "1\n00:00:00,000 --> 00:00:01,000\nOne.\n\n"
    assert srt.push(Segment(1.0, 2.0, "")) == ""
    assert srt.push(Segment(2.0, 3.0, "Two.")) == "2\n00:00:02,000 --> 00:00:03,000\nTwo.\n\n"
    assert vtt.header == "WEBVTT\n\n"
    assert vtt.push(Segment(0.0, 1.0, "One.")) == "00:00:00.000 --> 00:00:01.000\nOne.\n\n"


def test_a_formatter_keeps_nothing_of_what_has_passed() -> None:
    formatter = SrtFormatter()
    written = sum(len(formatter.push(Segment(t, t + 1.0, "word " * 40))) for t in range(500))
    assert written > 100_000
    assert len(pickle.dumps(formatter)) < 300


@pytest.mark.parametrize(
    ("time_s", "clock"),
    [
        (0.0004, "00:00:00,000"),
        (0.0006, "00:00:00,001"),
        (59.9994, "00:00:59,999"),
        (59.9996, "00:01:00,000"),
        (3599.9996, "01:00:00,000"),
        (3661.007, "01:01:01,007"),
        (359_999.5, "99:59:59,500"),
        (360_000.0, "100:00:00,000"),
        (-0.5, "00:00:00,000"),
    ],
)
def test_times_are_rounded_before_they_are_split(time_s: float, clock: str) -> None:
    first_line = as_srt([Segment(time_s, time_s + 5.0, "x")]).splitlines()[1]
    assert first_line.partition(" --> ")[0] == clock


def test_a_cue_ends_after_it_begins() -> None:
    segments = [Segment(1.0, 1.0, "none"), Segment(2.0, 1.5, "less"), Segment(-2.0, -1.0, "before")]
    times = re.findall(r"\S+ --> \S+", as_vtt(segments))
    assert times == [
        "00:00:01.000 --> 00:00:01.001",
        "00:00:02.000 --> 00:00:02.001",
        "00:00:02.000 --> 00:00:02.001",
    ]


def test_cues_may_overlap_but_never_begin_earlier_than_the_one_before() -> None:
    segments = [Segment(0.0, 4.0, "a"), Segment(3.0, 6.0, "b"), Segment(2.5, 5.0, "c")]
    assert re.findall(r"\S+ --> \S+", as_vtt(segments)) == [
        "00:00:00.000 --> 00:00:04.000",
        "00:00:03.000 --> 00:00:06.000",
        "00:00:03.000 --> 00:00:05.000",
    ]


def test_vtt_escapes_markup_and_arrows() -> None:
    assert vtt_text("if a < b && b > c --> <i>go</i>") == (
        "if a &lt; b &amp;&amp; b &gt; c --&gt; &lt;i&gt;go&lt;/i&gt;"
    )


def test_srt_text_is_left_as_it_is() -> None:
    assert as_srt([Segment(0.0, 1.0, "AT&T <3")]).splitlines()[2] == "AT&T <3"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\n\n", "\u2028", "\v", " \t "])
def test_no_text_can_break_its_cue(newline: str) -> None:
    assert vtt_text(f"one{newline}two") == "one two"
    srt = as_srt([Segment(0.0, 1.0, f"one{newline}2{newline}three")])
    assert srt == "1\n00:00:00,000 --> 00:00:01,000\none 2 three\n\n"


def test_long_text_goes_on_a_second_line_between_words() -> None:
    text = " The quick brown fox jumps over the lazy dog and then it runs away."
    assert vtt_text(text) == ("The quick brown fox jumps over the lazy\ndog and then it runs away.")


def test_a_line_is_filled_to_its_last_column() -> None:
    assert lines_of("a" * 20 + " " + "b" * 21, 42) == ["a" * 20 + " " + "b" * 21]
    assert lines_of("a" * 20 + " " + "b" * 22, 42) == ["a" * 20, "b" * 22]


def test_a_word_wider_than_a_line_is_broken() -> None:
    assert lines_of("see abcdefghij", 4) == ["see", "abcd", "efgh", "ij"]
    assert lines_of("!!!!!!", 4) == ["!!!!", "!!"]


def test_chinese_breaks_anywhere_but_not_before_closing_punctuation() -> None:
    assert lines_of("今天天气很好我们去公园", 10) == ["今天天气很", "好我们去公", "园"]
    assert lines_of("今天天气好，我们去公园。", 10) == ["今天天气", "好，我们去", "公园。"]
    assert lines_of("他说：「你好」。", 8) == ["他说：", "「你", "好」。"]


def test_japanese_keeps_small_kana_and_long_vowels_with_the_syllable() -> None:
    assert lines_of("ラーメンちょっと", 6) == ["ラーメ", "ン", "ちょっ", "と"]


def test_words_in_chinese_stay_whole() -> None:
    assert lines_of("我用Python写程序", 10) == ["我用Python", "写程序"]
    assert lines_of("我们用Python写", 10) == ["我们用", "Python写"]


def test_korean_breaks_between_words() -> None:
    assert lines_of("안녕하세요 여러분", 12) == ["안녕하세요", "여러분"]


def test_right_to_left_text_stays_in_its_order() -> None:
    assert vtt_text(" שלום עולם, מה שלומך?") == "שלום עולם, מה שלומך?"
    assert lines_of("مرحبا بالعالم كيف حالك", 14) == ["مرحبا بالعالم", "كيف حالك"]


def test_emoji_and_marks_are_not_torn() -> None:
    family, thumb = "👨\u200d👩\u200d👧", "👍🏽"
    assert lines_of(f"{family}{family}", 6) == [family, family]
    assert lines_of(f"{thumb}{thumb}", 4) == [thumb, thumb]
    assert lines_of("e\u0301" * 6, 4) == ["e\u0301" * 4, "e\u0301" * 2]


def test_no_break_spaces_do_not_break() -> None:
    assert lines_of("le prix\u00a0: 10\u202f€", 8) == ["le", "prix\u00a0:", "10\u202f€"]


@pytest.mark.parametrize(
    ("text", "columns"), [("abc", 3), ("漢字", 4), ("e\u0301", 1), ("한글", 4), ("ｱ", 1), ("🎉", 2)]
)
def test_width_counts_wide_characters_twice_and_marks_not(text: str, columns: int) -> None:
    assert width(text) == columns


NINE_TENS = " ".join(f"{nth:09}" for nth in range(1, 10))
"""Four words on a line, eight in a cue, one in the next: 89 characters."""


def test_more_than_two_lines_go_into_further_cues_by_their_share_of_the_text() -> None:
    cues = cues_of(Segment(10.0, 18.9, NINE_TENS))
    assert [cue.lines for cue in cues] == [
        (
            "000000001 000000002 000000003 000000004",
            "000000005 000000006 000000007 000000008",
        ),
        ("000000009",),
    ]
    assert [cue.start_s for cue in cues] == pytest.approx([10.0, 18.0])
    assert [cue.end_s for cue in cues] == pytest.approx([18.0, 18.9])


def test_further_cues_begin_with_their_first_word_where_its_time_is_known() -> None:
    words = tuple(
        SpokenWord(f" {nth:09}", start_s, start_s + 0.2, 1.0)
        for nth, start_s in enumerate([0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 12.25], 1)
    )
    cues = cues_of(Segment(0.5, 12.5, f" {NINE_TENS}", words=words))
    assert [(cue.start_s, cue.end_s) for cue in cues] == [(0.5, 12.25), (12.25, 12.5)]


def test_words_that_are_not_the_text_are_not_trusted() -> None:
    words = (SpokenWord("else", 0.0, 1.0, 1.0),)
    cues = cues_of(Segment(10.0, 18.9, NINE_TENS, words=words))
    assert cues[1].start_s == pytest.approx(18.0)


def test_cues_of_one_segment_are_numbered_on() -> None:
    segments = [Segment(0.0, 8.9, NINE_TENS), Segment(9.0, 10.0, "End.")]
    assert re.findall(r"(?m)^(\d+)\n(\S+) -->", as_srt(segments)) == [
        ("1", "00:00:00,000"),
        ("2", "00:00:08,000"),
        ("3", "00:00:09,000"),
    ]
