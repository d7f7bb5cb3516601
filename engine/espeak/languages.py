"""Which language reads which script, and which voice speaks which language."""

from __future__ import annotations

from collections.abc import Iterable

from engine.espeak.native import NativeVoice

DEFAULT_TAG = "en-us"

# What a script is read as when nobody says.
_LANGUAGE_OF_SCRIPT = {
    "Latn": DEFAULT_TAG, "Cyrl": "ru", "Grek": "el", "Armn": "hy", "Geor": "ka", "Hebr": "he",
    "Arab": "ar", "Ethi": "am", "Deva": "hi", "Beng": "bn", "Guru": "pa", "Gujr": "gu",
    "Orya": "or", "Taml": "ta", "Telu": "te", "Knda": "kn", "Mlym": "ml", "Sinh": "si",
    "Thai": "th", "Mymr": "my", "Cher": "chr", "Shaw": "en-shaw", "Hani": "cmn", "Hang": "ko",
    "Jpan": "ja",
}  # fmt: skip

# Scripts of the languages that are not written in Latin, by primary subtag.
_SCRIPTS_OF_LANGUAGE = {
    language: frozenset(scripts.split())
    for scripts, languages in (
        ("Cyrl", "ba be bg cv kk ky mk nog ru tt uk"),
        ("Cyrl Latn", "sr"),
        ("Grek", "el grc"),
        ("Armn", "hy hyw"),
        ("Geor", "ka"),
        ("Hebr", "he"),
        ("Arab", "ar fa sd ug ur"),
        ("Ethi", "am ti"),
        ("Deva", "hi kok mr ne"),
        ("Beng", "as bn bpy"),
        ("Guru", "pa"),
        ("Gujr", "gu"),
        ("Orya", "or"),
        ("Taml", "ta"),
        ("Telu", "te"),
        ("Knda", "kn"),
        ("Mlym", "ml"),
        ("Sinh", "si"),
        ("Thai", "th"),
        ("Mymr", "my shn"),
        ("Cher", "chr"),
        ("Hani", "cmn yue"),
        ("Jpan Hani", "ja"),
        ("Hang Hani", "ko"),
    )
    for language in languages.split()
}
_SCRIPTS_OF_TAG = {
    "cmn-latn-pinyin": frozenset({"Hani", "Latn"}),
    "yue-latn-jyutping": frozenset({"Hani", "Latn"}),
    "fa-latn": frozenset({"Latn"}),
    "en-shaw": frozenset({"Shaw"}),
}
_LATIN = frozenset({"Latn"})

# Tags that the library knows by another name, or would give to a voice that few mean.
_ALIASES = {
    "en": DEFAULT_TAG,
    "zh": "cmn",
    "zh-hk": "yue",
    "zh-mo": "yue",
    "zh-hant-hk": "yue",
    "nn": "nb",
    "iw": "he",
    "in": "id",
    "mo": "ro",
}
# The library's file names are BCP 47 tags, but for these.
_TAGS = {"gmw/en": "en-GB", "art/piqd": "tlh-Piqd"}


def language_tag(identifier: str) -> str:
    """BCP 47 tag of a voice: "gmw/en-US" speaks "en-US"."""
    return _TAGS.get(identifier) or identifier.rpartition("/")[2]


def language_of_script(script: str | None) -> str:
    """The tag that a script is read as by default; English where there is none."""
    return _LANGUAGE_OF_SCRIPT.get(script or "Latn", DEFAULT_TAG)


def reads(tag: str, script: str | None) -> bool:
    """Whether a voice of this language can read the script; text without letters, any can."""
    tag = tag.lower()
    primary = tag.partition("-")[0]
    scripts = _SCRIPTS_OF_TAG.get(tag) or _SCRIPTS_OF_LANGUAGE.get(primary, _LATIN)
    return script is None or script in scripts


def matches(tag: str, wanted: str) -> bool:
    """Whether `tag` is within the language range `wanted`: "en-GB" is within "en" (RFC 4647)."""
    return f"{tag}-".lower().startswith(f"{wanted}-".lower().replace("_", "-"))


class LanguageIndex:
    """Finds the voice for a language tag."""

    def __init__(self, voices: Iterable[NativeVoice]) -> None:
        ranked = sorted(
            (priority, order, code.lower(), voice.identifier)
            for order, voice in enumerate(voices)
            for priority, code in (*voice.codes, (0, language_tag(voice.identifier)))
        )
        self._voices: dict[str, str] = {}
        for _, _, code, identifier in ranked:
            self._voices.setdefault(code, identifier)
        for alias, code in _ALIASES.items():
            self._voices[alias] = self._voices[code]

    def exact(self, tag: str) -> str | None:
        """Identifier of the best voice that lists this very tag, in any case."""
        return self._voices.get(tag.lower())

    def nearest(self, tag: str) -> str | None:
        """As `exact`, then with subtags dropped from the end: "de-AT" is spoken as "de"."""
        subtags = tag.replace("_", "-").split("-")
        lengths = range(len(subtags), 0, -1)
        return next(filter(None, (self.exact("-".join(subtags[:n])) for n in lengths)), None)
