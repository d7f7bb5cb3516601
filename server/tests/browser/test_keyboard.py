"""Speak by keyboard alone."""

from playwright.sync_api import expect

from compat_tests.texts import LONGEST
from server.tests.browser.pages import LIMIT_S, OpenPage, until

# All that can take the focus; of a group of radio buttons, the chosen one.
CONTROLS = """() => {
    const all = document.querySelectorAll("main .panel:not([hidden]) :is(a[href], button, input, "
        + "select, textarea, summary, [tabindex='0'])");
    const can = [...all].filter((node) => node.checkVisibility({ visibilityProperty: true })
        && !node.disabled && (node.type !== "radio" || node.checked));
    return can.map((node) => node.id || node.dataset.testid);
}"""
FOCUSED = "document.activeElement.id || document.activeElement.dataset.testid"


def test_tab_reaches_every_control_of_speak(open_page: OpenPage) -> None:
    page = open_page("speak")
    page.fill("#text", "Good evening.")
    page.click("#speak-button")
    expect(page.get_by_test_id("history-row")).to_have_count(1)
    until(page, "!rhapsode.player.isPlaying")
    wanted = page.evaluate(CONTROLS)
    assert {"voice", "model", "text", "speak-button", "play", "seek", "format"} <= set(wanted)
    page.locator("#main").focus()
    reached = []
    for _ in wanted:
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
    assert reached == wanted


def test_control_enter_speaks_and_escape_stops(open_page: OpenPage) -> None:
    page = open_page("speak")
    page.fill("#text", LONGEST * 60)
    page.locator("#text").press("Control+Enter")
    until(page, "rhapsode.player.isPlaying && rhapsode.player.currentTime > 0.1")
    page.keyboard.press("Escape")
    expect(page.locator("#state")).to_have_attribute("data-state", "stopped")
    until(page, "!rhapsode.player.isPlaying", LIMIT_S)


def test_the_first_tab_leads_past_the_header(open_page: OpenPage) -> None:
    page = open_page("speak")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate(FOCUSED) == "main"
