"""Text without Chinese, as GLM-TTS was taught to read English; other languages pass whole."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache

_HALF_WIDTH = str.maketrans(
    {"。": ". ", "？": "? ", "！": "! ", "；": "; ", "：": ": ", "、": ", ", "，": ", ", "…": ". "}
)
# Between operands alike spaced; else it is an emphasis or a footnote and not said.
_TIMES = re.compile(r"(?<=\w)(?:\*|\s+\*\s+)(?=\w)")
_TITLE = re.compile(r"(?<!\S)#+\s")
_NUMBER_SIGN = re.compile(r"\b[Nn]o\. ?(?=\d)")
_APOSTROPHE = re.compile(r"(?<=[^\W\d_])['’](?=[^\W\d_])")
_DIGITS = re.compile(r"\d+")
_MAX_DIGITS = 36
"""What `inflect` has names for."""


def prepare_english(text: str) -> str:
    """What the grammar would misread, as words; to be verbalised next."""
    text = _TITLE.sub("", text.translate(_HALF_WIDTH))
    text = _TIMES.sub(" times ", text).replace("*", " ").replace("'", "’")
    return _NUMBER_SIGN.sub("number ", text)


def finish_english(text: str) -> str:
    """Lower-case words, each mark followed by one space; all other signs gone."""
    text = _DIGITS.sub(lambda digits: f" {_spell(digits.group())} ", text)
    text = "".join(map(_spoken, _APOSTROPHE.sub("\0", text))).lower()
    text = " ".join(text.split())
    return re.sub(r"\s*([.,?!:;])(?:\s*\1)*\s*", r"\1 ", text).strip()


def _spoken(char: str) -> str:
    """A letter, its accents, digits and the marks as they are; what is not said is a space."""
    if char == "\0":
        return "'"
    return char if char in ".,?!:;" or unicodedata.category(char)[0] in "LMN" else " "


def _spell(digits: str) -> str:
    parts = [digits] if len(digits) <= _MAX_DIGITS else list(digits)
    # "twenty-five": without the hyphen the two would run together.
    return " ".join(map(_number_to_words(), parts)).replace("-", " ")


@cache
def _number_to_words() -> Callable[[str], str]:
    import inflect

    engine = inflect.engine()
    return lambda digits: str(engine.number_to_words(digits))
