"""Every tab, in every language and theme, on a screen and on a phone: whole, and open to all."""

import re
from collections.abc import Iterator
from importlib.resources import files
from itertools import product
from pathlib import Path

from playwright.sync_api import Page, expect

from server.tests.browser.pages import (
    PHONE,
    SCREEN,
    TABS,
    Language,
    OpenPage,
    View,
    overflow,
    until,
)

AXE = files("axe_playwright_python").joinpath("axe.min.js")
LANGUAGES: tuple[Language, ...] = ("en", "zh", "ja")


def filled(page: Page, recording: Path) -> Iterator[str]:
    """Each tab with something in it, one after the other."""
    page.fill("#text", "Good evening. 你好。")
    page.click("#speak-button")
    expect(page.get_by_test_id("history-row")).to_have_count(1)
    yield "speak"
    page.click("#tab-voices")
    expect(page.get_by_test_id("voice-tile").first).to_be_visible()
    yield "voices"
    page.click("#voices-add")
    page.set_input_files("#add-file", recording)
    yield "the form of a new voice"
    page.click("#tab-transcribe")
    page.set_input_files("#transcribe-file", recording)
    page.click("#transcribe-start")
    expect(page.locator("#transcribe-copy")).to_be_visible(timeout=20_000)
    yield "transcribe"
    page.click("#tab-status")
    expect(page.get_by_test_id("request").first).to_be_visible()
    yield "status"
    page.click("#key-button")
    yield "the key's dialog"


def test_nothing_overflows_in_any_language_on_a_screen_or_a_phone(
    open_page: OpenPage, recording: Path
) -> None:
    page = open_page("speak")
    for place in filled(page, recording):
        for view, language in product((SCREEN, PHONE), LANGUAGES):
            page.set_viewport_size({"width": view.width, "height": view.height})
            choose_language(page, language)
            assert overflow(page) == [], (place, view.width, language)
        page.set_viewport_size({"width": SCREEN.width, "height": SCREEN.height})


def test_nobody_is_kept_out_by_a_serious_barrier(open_page: OpenPage, recording: Path) -> None:
    page = open_page("speak")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    for place in filled(page, recording):
        assert barriers(page, {}) == [], place
        # The dark theme has other colours, and that is all.
        page.emulate_media(color_scheme="dark")
        assert barriers(page, {"runOnly": ["color-contrast"]}) == [], (place, "dark")
        page.emulate_media(color_scheme="light")


def barriers(page: Page, options: dict[str, object]) -> list[str]:
    """What axe finds serious, once nothing moves: what fades in is pale for a moment."""
    until(page, "document.getAnimations().length === 0")
    found = page.evaluate(
        "(options) => axe.run(options)", {"resultTypes": ["violations"], **options}
    )
    return [
        f"{each['id']}: {node['html'][:120]} {node['failureSummary']}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def choose_language(page: Page, language: Language) -> None:
    page.select_option("#language", language)
    expect(page.locator("html")).to_have_attribute("lang", re.compile(f"^{language}"))


def test_themes_differ_follow_the_system_and_are_remembered(open_page: OpenPage) -> None:
    page = open_page("speak", View(theme="dark"))
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.select_option("#theme", "light")
    light = page.evaluate(ground)
    assert light != dark
    page.reload()
    assert page.evaluate(ground) == light
    page.select_option("#theme", "system")
    assert page.evaluate(ground) == dark


def test_a_language_is_changed_in_every_tab_and_remembered(open_page: OpenPage) -> None:
    page = open_page("speak")
    heads = {}
    for language in LANGUAGES:
        choose_language(page, language)
        page.reload()
        for tab in TABS:
            page.click(f"#tab-{tab}")
            heads[language, tab] = page.locator(f"#panel-{tab} h1").text_content()
    assert len(set(heads.values())) == len(heads)
