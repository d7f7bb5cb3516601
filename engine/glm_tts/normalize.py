"""A text as GLM-TTS was taught to read it: one line, no signs that are not said, a mark at its end.

The original loses words, or runs them together, in places; there we depart from it:

- Space between words of any script that uses it stays, not just between ASCII letters
  ("café au lait"); so do accents and vowel signs.
- A sign or an emoji that is dropped inside a text leaves a space ("late--aren't", "and/or",
  "x * y" were one word each), as the hyphen of a spelt number does ("twenty five").
- An apostrophe between two letters stays in Chinese text too; any other becomes a space
  ("the students' books" was "students'books").
- Full-width marks and "…" in text without Chinese become ASCII marks; they were dropped.
- Of marks in a row a question mark wins over the last one: "you?!" stays a question.
- In Chinese text a hyphen before a number is a minus, one in a date or a phone number is none, and
  one between spaces is a pause; "3~5" and "3-5天" are ranges.
- Every power is read ("3*10^5"), not just the first of a text.
- Numbers beyond 36 digits are read digit by digit; they were an exception.
- Emphasis and titles of Markdown are not read out; "x * y" is "x times y".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

from msgspec import Struct

from engine.glm_tts.chinese import MARKS, finish_chinese, prepare_chinese
from engine.glm_tts.english import finish_english, prepare_english
from engine.glm_tts.verbalize import Verbalizers, clauses
from engine.text import script_of

_LIST_NUMBER = re.compile(r"\A(\d+)\. ")
_HYPHEN = re.compile(r"(?<=[A-Za-z])-(?=[A-Za-z])")
_VARIATION_SELECTORS = re.compile("[\ufe00-\ufe0f]")
_CHINESE = re.compile(r"[一-鿿]")
_MARKS_IN_A_ROW = re.compile(rf"[{MARKS}]{{2,}}")
_ENDS_LINE = tuple(".!?;:：。！？；，")
# 额 is read by what stands beside it.
_SEAM = re.compile(r"(?<=[^\W\d_])\s+(?=[^\W\d_])|(?<=[一-鿿])(?<!额)(?=[一-鿿])(?!额)")


class Stretch(Struct, frozen=True):
    """A part of a text, as it is spoken."""

    text: str
    before: float
    """The share of the whole text that is before it: so much or more."""


def normalize(text: str, verbalizers: Verbalizers) -> str:
    """Make a text speakable.

    Args:
        text: Any, without control characters but the newline.
        verbalizers: Write numbers as words.
    Returns:
        One line that ends in "。", ".", "？" or "?"; "" if nothing in the text can be said.
    """
    text = "".join(stretch.text for stretch in stretches(text, verbalizers))
    return text if any(unicodedata.category(char)[0] in "LN" for char in text) else ""


def stretches(text: str, verbalizers: Verbalizers) -> Iterator[Stretch]:
    """What `normalize` makes of a text, to the letter, but read as it is asked for.

    The grammar, which takes nearly all the time, is given one clause more for each stretch, or as
    many as it takes to a seam: a text without spaces and Chinese has none, and is read at once.
    """
    text = _prepare(text)
    is_chinese = has_chinese(text)
    verbalize = verbalizers.chinese if is_chinese else verbalizers.english
    text = (prepare_chinese if is_chinese else prepare_english)(text)

    def finish(part: str) -> str:
        part = (finish_chinese if is_chinese else finish_english)(part)
        part = _MARKS_IN_A_ROW.sub(_one_mark, _drop_spaces(part.replace("#", "")))
        return part.replace("！", "。").replace("!", ".")

    waiting, read, before = "", 0, 0.0
    for clause in clauses(text):
        start = len(waiting)
        waiting += verbalize(clause)
        if seam := _last_seam(waiting, start, finish):
            space = " " * bool(seam.group())
            yield Stretch(finish(waiting[: seam.start()]) + space, before)
            waiting, before = waiting[seam.end() :], read / len(text)
        read += len(clause)
    if last := finish(waiting):
        yield Stretch(_end(last, is_chinese), before)


def _prepare(text: str) -> str:
    import emoji

    text = _join_lines(_LIST_NUMBER.sub(r"\1。", text).replace("\\n", "\n"))
    if not text.isascii():
        text = _VARIATION_SELECTORS.sub("", emoji.replace_emoji(text, " "))
    return _HYPHEN.sub(" ", text)


def _last_seam(text: str, start: int, finish: Callable[[str], str]) -> re.Match[str] | None:
    """The last place from `start` on that nothing reaches across: what is finished on either side
    is what is finished together. A space is one if it stays."""
    for seam in reversed([*_SEAM.finditer(text, start)]):
        space = seam.group()
        if not space or " " in finish(text[seam.start() - 1] + space + text[seam.end()]):
            return seam
    return None


def has_chinese(text: str) -> bool:
    """Whether the Chinese branch reads it."""
    return _CHINESE.search(text) is not None


def _join_lines(text: str) -> str:
    lines = [line for line in (" ".join(line.split()) for line in text.split("\n")) if line]
    if len(lines) > 1:
        lines = [line if line.endswith(_ENDS_LINE) else _with_mark(line) for line in lines]
    return ("" if has_chinese(text) else " ").join(lines)


def _with_mark(line: str) -> str:
    return f"{line}。" if has_chinese(line) else f"{line}. "


def _drop_spaces(text: str) -> str:
    """Keep a space between two words, and after an ASCII mark."""
    words = re.split(r"\s+", text.strip())
    spaced = words[0]
    for word in words[1:]:
        is_kept = (_is_spaced(spaced[-1]) or spaced[-1] in ".,!?;:") and _is_spaced(word[0])
        spaced += f" {word}" if is_kept else word
    return spaced


def _is_spaced(char: str) -> bool:
    """Whether it is of a script that puts spaces between words."""
    return unicodedata.category(char)[0] in "LMN" and script_of(char) not in ("Hani", "Jpan")


def _one_mark(marks: re.Match[str]) -> str:
    return next((mark for mark in marks.group() if mark in "？?"), marks.group()[-1])


def _end(text: str, is_chinese: bool) -> str:
    if text[-1] in "？?":
        return text
    body = text[:-1] if text[-1] in MARKS else text
    return body + ("。" if is_chinese else ".")
