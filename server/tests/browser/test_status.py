"""Status: what it says of engines and requests is so, and its buttons do what they say."""

from playwright.sync_api import Locator, Page, expect

from server.tests.browser.pages import KEY, LIMIT_S, MOVABLE, OpenPage, Server

LIMIT_MS = LIMIT_S * 1000


def engine(page: Page, name: str) -> Locator:
    return page.locator(f'[data-engine="{name}"]')


def press(card: Locator, verb: str, state: str) -> None:
    card.get_by_test_id(f"engine-{verb}").click()
    expect(card).to_have_attribute("data-state", state, timeout=LIMIT_MS)
    expect(card).not_to_have_attribute("aria-busy", "true")


def test_stop_and_load_change_the_engine(open_page: OpenPage, server: Server) -> None:
    page = open_page("status")
    card = engine(page, "espeak-ng")
    expect(card).to_have_attribute("data-state", "resident")
    expect(card.get_by_test_id("engine-offload")).to_be_hidden()
    expect(card.get_by_test_id("engine-load")).to_have_attribute("aria-disabled", "true")
    press(card, "stop", "stopped")
    entry = server.get("/v1/engines/espeak-ng")
    assert (entry["state"], entry["workers"][0]["used_bytes"]) == ("stopped", 0)
    press(card, "load", "resident")
    assert server.get("/v1/engines/espeak-ng")["state"] == "resident"


def test_offload_frees_the_device(open_page: OpenPage, keyed_server: Server) -> None:
    page = open_page("status", at=keyed_server, forgiven="401 (Unauthorized)")
    page.fill("#key-input", KEY)
    page.get_by_test_id("key-save").click()
    card = engine(page, MOVABLE)
    expect(card).to_have_attribute("data-state", "resident", timeout=LIMIT_MS)
    expect(card.get_by_test_id("memory-words")).to_contain_text("1000 B here")
    press(card, "offload", "offloaded")
    expect(card.get_by_test_id("memory-words")).to_contain_text("10 B here")
    assert keyed_server.get(f"/v1/engines/{MOVABLE}")["state"] == "offloaded"
    press(card, "load", "resident")
    assert keyed_server.get(f"/v1/engines/{MOVABLE}")["state"] == "resident"


def test_an_engine_that_is_not_there_says_how_to_get_it(open_page: OpenPage) -> None:
    card = engine(open_page("status"), "whisper")
    expect(card).to_have_attribute("data-state", "absent")
    expect(card.get_by_test_id("engine-error")).to_contain_text("rhapsode")
    expect(card.get_by_test_id("engine-load")).to_be_hidden()


def test_recent_requests_are_the_servers(open_page: OpenPage, server: Server) -> None:
    page = open_page("speak")
    page.fill("#text", "Good evening.")
    with page.expect_response("**/v1/audio/speech") as answer:
        page.click("#speak-button")
    page.click("#tab-status")
    row = page.locator(f'[data-request="{answer.value.headers["x-request-id"]}"]')
    expect(row).to_contain_text("espeak-ng")
    expect(row).to_contain_text("Done")
    (entry,) = [
        each for each in server.get("/v1/requests")["data"] if each["id"] in row.inner_text()
    ]
    expect(row.locator('[data-name="rtf"]')).to_have_text(f"{entry['rtf']:.3f}")
    expect(row.locator('[data-name="ttfa"]')).to_contain_text(" s")


def test_a_server_that_is_gone_is_told_until_it_is_back(open_page: OpenPage) -> None:
    page = open_page("status", forgiven="net::ERR_FAILED")
    expect(engine(page, "espeak-ng")).to_be_visible()
    page.route("**/v1/engines", lambda route: route.abort())
    expect(page.locator("#status-problem")).to_be_visible(timeout=LIMIT_MS)
    page.unroute("**/v1/engines")
    expect(page.locator("#status-problem")).to_be_hidden(timeout=LIMIT_MS)
