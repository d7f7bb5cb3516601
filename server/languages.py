"""Names of the languages that Whisper knows, as OpenAI writes them."""

from __future__ import annotations

_TABLE = """
af afrikaans, am amharic, ar arabic, as assamese, az azerbaijani, ba bashkir, be belarusian,
bg bulgarian, bn bengali, bo tibetan, br breton, bs bosnian, ca catalan, cs czech, cy welsh,
da danish, de german, el greek, en english, es spanish, et estonian, eu basque, fa persian,
fi finnish, fo faroese, fr french, gl galician, gu gujarati, ha hausa, haw hawaiian, he hebrew,
hi hindi, hr croatian, ht haitian creole, hu hungarian, hy armenian, id indonesian, is icelandic,
it italian, ja japanese, jw javanese, ka georgian, kk kazakh, km khmer, kn kannada, ko korean,
la latin, lb luxembourgish, ln lingala, lo lao, lt lithuanian, lv latvian, mg malagasy, mi maori,
mk macedonian, ml malayalam, mn mongolian, mr marathi, ms malay, mt maltese, my myanmar, ne nepali,
nl dutch, nn nynorsk, no norwegian, oc occitan, pa punjabi, pl polish, ps pashto, pt portuguese,
ro romanian, ru russian, sa sanskrit, sd sindhi, si sinhala, sk slovak, sl slovenian, sn shona,
so somali, sq albanian, sr serbian, su sundanese, sv swedish, sw swahili, ta tamil, te telugu,
tg tajik, th thai, tk turkmen, tl tagalog, tr turkish, tt tatar, uk ukrainian, ur urdu, uz uzbek,
vi vietnamese, yi yiddish, yo yoruba, yue cantonese, zh chinese
"""

_NAMES = dict(
    entry.strip().split(" ", 1) for entry in _TABLE.replace("\n", " ").split(",") if entry.strip()
)
_CODES = {name: code for code, name in _NAMES.items()} | {
    "mandarin": "zh",
    "castilian": "es",
    "flemish": "nl",
    "valencian": "ca",
    "haitian": "ht",
    "burmese": "my",
    "moldovan": "ro",
    "sinhalese": "si",
    "jv": "jw",
    "iw": "he",
}


def language_name(code: str) -> str:
    """The English name, lower case; of a code that is not in the table, the code itself."""
    return _NAMES.get(code, code)


def language_code(text: str) -> str | None:
    """ISO 639-1 code of "en", "en-US", "English", ...; None if nothing is known by that."""
    text = text.strip().lower()
    primary = text.replace("_", "-").partition("-")[0]
    if primary in _NAMES:
        return primary
    return _CODES.get(text) or _CODES.get(primary)
