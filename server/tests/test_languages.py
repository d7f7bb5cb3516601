import pytest

from server.languages import language_code, language_name


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("en", "en"),
        ("en-US", "en"),
        ("EN_us", "en"),
        ("English", "en"),
        (" german ", "de"),
        ("zh-Hant-TW", "zh"),
        ("Haitian Creole", "ht"),
        ("iw", "he"),
        ("yue", "yue"),
        ("haw", "haw"),
        ("xx", None),
        ("", None),
        ("klingon", None),
    ],
)
def test_language_is_understood_in_every_spelling(text: str, code: str | None) -> None:
    assert language_code(text) == code


def test_every_code_has_its_name_and_every_name_its_code() -> None:
    assert language_name("en") == "english"
    assert language_name("ht") == "haitian creole"
    assert language_name("tlh") == "tlh"
    assert all(language_code(language_name(code)) == code for code in ("yue", "jw", "nn", "my"))
