"""A server with keys: the page asks for one, and keeps it in this browser alone."""

from playwright.sync_api import expect

from server.tests.browser.pages import KEY, OpenPage, Server, until

REFUSED = "401 (Unauthorized)"


def test_the_page_asks_for_a_key_and_works_with_it(
    open_page: OpenPage, keyed_server: Server
) -> None:
    page = open_page("speak", at=keyed_server, forgiven=REFUSED)
    page.fill("#key-input", "wrong")
    page.get_by_test_id("key-save").click()
    expect(page.locator("dialog .note-warning")).to_be_visible()
    page.fill("#key-input", KEY)
    page.get_by_test_id("key-save").click()
    expect(page.locator("dialog")).to_have_count(0)
    page.fill("#text", "Hello.")
    page.click("#speak-button")
    expect(page.locator("#state")).to_have_attribute("data-state", "done")
    expect(page.locator("#model")).to_have_value("espeak-ng")
    page.click("#tab-voices")
    expect(page.get_by_test_id("voice-tile").first).to_be_visible()
    page.click("#tab-status")
    expect(page.get_by_test_id("request").first).to_be_visible()


def test_the_key_is_kept_in_this_browser_alone_and_can_be_forgotten(
    open_page: OpenPage, keyed_server: Server
) -> None:
    page = open_page("voices", at=keyed_server, forgiven=REFUSED)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(f"{request.url} {request.post_data or ''}"))
    page.fill("#key-input", KEY)
    page.get_by_test_id("key-save").click()
    page.reload()
    expect(page.get_by_test_id("voice-tile").first).to_be_visible()
    assert page.evaluate("localStorage.getItem('rhapsode.key')") == f'"{KEY}"'
    kept = "JSON.stringify([document.cookie, {...sessionStorage}, location.href])"
    assert KEY not in page.evaluate(kept)
    assert sent
    assert not [each for each in sent if KEY in each]
    page.click("#key-button")
    page.get_by_test_id("key-forget").click()
    until(page, "localStorage.getItem('rhapsode.key') === null")
