"""Any text is spoken or refused as `input`: never a server error, never a hang."""

import json
import time

import httpx
import pytest

from compat_tests.envelope import assert_envelope
from compat_tests.texts import MAX_INPUT

DEADLINE_S = 15.0

TEXTS = {
    "NUL": "before\0after",
    "only NUL": "\0",
    "control characters": "".join(map(chr, range(1, 32))) + "\x7f\x80\x9f",
    "4096 emoji": "😀" * MAX_INPUT,
    "emoji sequences": "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 " * 200,
    "only punctuation": "?!... -- ,,, ;;; «» “”",
    "4096 full stops": "." * MAX_INPUT,
    "Arabic": "كان الميناء هادئًا، وكان مصباح واحد يضيء فوق الباب.",
    "Hebrew": "הנמל היה שקט, ומנורה אחת דלקה מעל הדלת.",
    "bidirectional controls": "\u202eright to left\u202c \u2067inner\u2069 \u200f.",
    "one word of 4096 letters": "a" * MAX_INPUT,
    "one number of 4096 digits": "9" * MAX_INPUT,
    "Latin, Cyrillic, Greek, Han, Kana, Hangul": "Hello мир κόσμε 世界 こんにちは 안녕하세요",
    "Devanagari and Thai": "नमस्ते दुनिया สวัสดีชาวโลก",
    "zero width": "\u200b\u200c\u200d\u2060\ufeff",
    "a byte order mark first": "\ufeffHello.",
    "stacked accents": "Z" + "\u0301\u0316\u0330" * 1000,
    "noncharacters": "a\ufffe\uffff\U0010ffffb",
    "private use": "\ue000\uf8ff",
    "4096 line breaks and one word": "\n" * (MAX_INPUT - 2) + "hi",
    "markup": "<speak><break time='10s'/>Hello &amp; goodbye</speak><!-- x -->",
    "phoneme markup": "[[h@'loU]] [[]] [[",
    "a URL": "https://example.com/a?b=c&d=%20#e",
    "a command": "; $(rm -rf /) `id` | cat -- --version",
    "mathematical letters": "𝓗𝓮𝓵𝓵𝓸 𝔀𝓸𝓻𝓵𝓭 Ⅷ ½ ㎏",
}

RAW_ESCAPES = {
    "a lone high surrogate": r"before \ud800 after",
    "a lone low surrogate": r"before \udc00 after",
    "surrogates the wrong way round": r"\udc00\ud800",
    "only a lone surrogate": r"\ud800",
    "an escaped NUL": r"a\u0000b",
}


def speak(http: httpx.Client, literal: str) -> None:
    """Send a JSON string literal as the input, and check that the answer is one of the two."""
    body = f'{{"model": "tts-1", "voice": "alloy", "response_format": "pcm", "input": {literal}}}'
    began = time.monotonic()
    answer = http.post(
        "/v1/audio/speech",
        content=body.encode(),
        headers={"content-type": "application/json"},
        timeout=DEADLINE_S,
    )
    assert time.monotonic() - began < DEADLINE_S
    if answer.status_code == httpx.codes.OK:
        assert len(answer.content) > 0
        assert len(answer.content) % 2 == 0
    else:
        assert_envelope(answer, 400, param="input")


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in TEXTS.items()])
def test_any_text_is_spoken_or_refused(http: httpx.Client, text: str) -> None:
    speak(http, json.dumps(text, ensure_ascii=False))


@pytest.mark.parametrize(
    "escaped", [pytest.param(escaped, id=name) for name, escaped in RAW_ESCAPES.items()]
)
def test_any_json_escape_is_spoken_or_refused(http: httpx.Client, escaped: str) -> None:
    speak(http, f'"{escaped}"')


@pytest.mark.parametrize(
    "text", ["Arabic", "Hebrew", "Latin, Cyrillic, Greek, Han, Kana, Hangul", "markup", "a URL"]
)
def test_text_with_words_in_it_is_spoken(http: httpx.Client, text: str) -> None:
    answer = http.post(
        "/v1/audio/speech",
        json={"model": "tts-1", "voice": "alloy", "input": TEXTS[text], "response_format": "pcm"},
    )
    assert answer.status_code == httpx.codes.OK
    assert any(answer.content)
