"""Text with Chinese in it, as GLM-TTS was taught to read it."""

from __future__ import annotations

import re

MARKS = "。？！；：、，.?!;:,"
"""What counts as punctuation; the first half is full width."""

_DIGITS = "零一二三四五六七八九"
_NUMERALS = f"{_DIGITS}十百千万亿两"
_NUMBER = r"\d+(?:\.\d+)?"
_POWER = re.compile(rf"(?<![\d.])({_NUMBER})\s*[*xX×]\s*({_NUMBER})\s*\^\s*(-?{_NUMBER})")
_DATE = re.compile(r"(?<![\d-])(\d{4})-0?(\d{1,2})-0?(\d{1,2})(?![\d-])")
_PHONE = re.compile(r"(?<![\d-])(?:0\d{2,3}-\d{7,8}|1\d{2}-\d{4}-\d{4})(?![\d-])")
_OPERAND = rf"[{_NUMERALS}A-Za-z\d]"

_BEFORE_NUMBERS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<=\d)\s*[~～]\s*(?=\d)", "到"),
        # A range where something is counted: "3-5天", but "5-3的结果".
        (rf"(?<=\d)-(?={_NUMBER}(?:%|(?![的等是得])[一-鿿]))", "到"),
        (r"(?<=[十百千万亿年月日号点%])\s*-\s*(?=\d)", "到"),
        (r"(?<=\d)\s*-\s*(?=\d)", "减"),
        (r"(?<![A-Za-z\d-])-(?=\d)", "负"),
        (r"\s-+\s", "，"),
        (r"-", ""),
        (rf"咯(?=[{MARKS}])", "喽"),
        (r"噢", "哦"),
        (r"欸", "诶"),
    )
]
_AFTER_NUMBERS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\", ""),
        (r"(?<!\w)额(?!\w)", "呃"),
        (r"[~～]+", "。"),
        (rf"(?<={_OPERAND})([)）]?)\s*\*\s*(?=[(（]?{_OPERAND})", r"\1乘"),
        (r"(?<=[A-Za-z])[’'](?=[A-Za-z])", "\0"),
        (r"[()（）【】「」`《》『』{}\[\]'‘’\"“”<>|_·*]", " "),
        (r"\0", "'"),
        (r"—+|†", "，"),
        (r"[,:：;；、]+", "，"),
        (r"[.…]+", "。"),
    )
]
_NAMES = str.maketrans(
    dict(zip("①②③④⑤⑥⑦⑧⑨⑩", "一二三四五六七八九十", strict=True))
    | {"²": "平方", "³": "立方", "/": "每", "+": "加", "=": "等于", "×": "乘", "÷": "除以"}
    | {"≠": "不等于", "≈": "约等于", "≤": "小于等于", "≥": "大于等于", "±": "正负", "√": "根号"}
    | {"∞": "无穷", "∑": "求和", "∫": "积分", "∈": "属于", "∴": "所以", "∵": "因为"}
    | {"℃": "摄氏度", "°": "度", "ς": "西格马"}
    | {
        letter: name
        for letters, names in (
            ("αβγδεζηθικλμ", "阿尔法 贝塔 伽马 德尔塔 艾普西隆 泽塔 伊塔 西塔 约塔 卡帕 兰姆达 缪"),
            ("νξοπρστυφχψω", "纽 克西 奥密克戎 派 柔 西格马 陶 宇普西隆 斐 希 普西 欧米伽"),
        )
        for pair in zip(letters, names.split(), strict=True)
        for letter, name in (pair, (pair[0].upper(), pair[1]))
    }
)


def prepare_chinese(text: str) -> str:
    """Ranges, powers and hyphens in Chinese characters; to be verbalised next."""
    text = _POWER.sub(_read_power, text)
    text = _DATE.sub(r"\1年\2月\3日", text)
    text = _PHONE.sub(lambda phone: phone.group().replace("-", ""), text)
    for pattern, replacement in _BEFORE_NUMBERS:
        text = pattern.sub(replacement, text)
    return text


def finish_chinese(text: str) -> str:
    """Signs in Chinese characters; brackets and quotes gone."""
    for pattern, replacement in _AFTER_NUMBERS:
        text = pattern.sub(replacement, text)
    return text.translate(_NAMES).strip().lower()


def _read_power(match: re.Match[str]) -> str:
    factor, base, exponent = map(numeral, match.groups())
    return f"{factor}乘{base}的{exponent}次方"


def numeral(number: str) -> str:
    """A decimal number as it is read: "10.05" is 十点零五; beyond 12 digits, digit by digit."""
    sign = "负" if number.startswith("-") else ""
    whole, point, fraction = number.removeprefix("-").partition(".")
    return sign + _whole(whole.lstrip("0")) + ("点" if point else "") + _digit_by_digit(fraction)


def _digit_by_digit(digits: str) -> str:
    return "".join(_DIGITS[int(digit)] for digit in digits)


def _whole(digits: str) -> str:
    if len(digits) > 12:
        return _digit_by_digit(digits)
    padded = digits.zfill(12)
    read = ""
    for start, unit in ((0, "亿"), (4, "万"), (8, "")):
        group = padded[start : start + 4]
        if not int(group):
            continue
        if read and (group[0] == "0" or padded[start - 1] == "0"):
            read += "零"
        read += _below_ten_thousand(group) + unit
    return (read.removeprefix("一") if read.startswith("一十") else read) or "零"


def _below_ten_thousand(group: str) -> str:
    read = "".join(
        _DIGITS[int(digit)] + (unit if digit != "0" else "")
        for digit, unit in zip(group, ("千", "百", "十", ""), strict=True)
    )
    return re.sub("零+", "零", read).strip("零")
