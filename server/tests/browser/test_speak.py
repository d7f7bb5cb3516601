"""Speak: what is asked for is heard while it is made, can be stopped, kept and heard again."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from compat_tests.audio import FORMATS, SILENCE_RMS, Format, decode
from compat_tests.texts import FIVE_SECONDS, LONGEST, PARAGRAPH
from compat_tests.waiting import wait_for
from server.tests.browser.pages import LIMIT_S, OpenPage, Server, until

WITHOUT_END = LONGEST * 60
"""Hours of speech."""


def ask(page: Page, text: str, response_format: Format = "mp3") -> None:
    """Have it spoken."""
    page.select_option("#format", response_format)
    page.fill("#text", text)
    page.click("#speak-button")


def expect_state(page: Page, state: str) -> None:
    expect(page.locator("#state")).to_have_attribute("data-state", state, timeout=LIMIT_S * 1000)


@pytest.mark.parametrize("response_format", ["mp3", "wav", "opus"])
def test_speech_is_heard(open_page: OpenPage, response_format: Format) -> None:
    page = open_page("speak")
    ask(page, FIVE_SECONDS, response_format)
    until(page, "rhapsode.player.currentTime > 0.2")
    heard_s = page.evaluate("rhapsode.player.currentTime")
    until(page, f"rhapsode.player.currentTime > {heard_s} + 0.3")
    expect_state(page, "done")
    until(page, "rhapsode.player.isComplete && rhapsode.player.peak > 0.05")
    assert 3 < page.evaluate("rhapsode.player.duration") < 8


def test_speech_is_heard_before_it_is_whole(open_page: OpenPage) -> None:
    page = open_page("speak")
    ask(page, WITHOUT_END)
    until(page, "rhapsode.player.currentTime > 0.2 && rhapsode.player.peak > 0.05")
    assert not page.evaluate("rhapsode.player.isComplete")
    expect_state(page, "speaking")


def test_progress_grows_to_the_end_and_the_numbers_are_shown(open_page: OpenPage) -> None:
    page = open_page("speak")
    page.evaluate("""() => {
        window.shares = [];
        const bar = document.getElementById("progress");
        const note = () => bar.hasAttribute("value") && shares.push(bar.value);
        new MutationObserver(note).observe(bar, { attributes: true });
    }""")
    ask(page, PARAGRAPH * 20)
    expect_state(page, "done")
    shares: list[float] = page.evaluate("shares")
    assert len(set(shares)) > 2
    assert shares == sorted(shares)
    assert shares[-1] == 1
    figures = {"first": r"^\d+ ms$", "ttfa": r"^\d+ ms$", "rtf": r"^\d.*$", "length": r"^\d:\d\d$"}
    for name, figure in figures.items():
        fact = page.get_by_test_id(f"fact-{name}").locator("dd")
        expect(fact).to_have_text(re.compile(figure))


@pytest.mark.parametrize("response_format", FORMATS)
def test_a_download_is_a_whole_file(
    open_page: OpenPage, tmp_path: Path, response_format: Format
) -> None:
    page = open_page("speak")
    ask(page, FIVE_SECONDS, response_format)
    expect_state(page, "done")
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename.endswith(f".{response_format}")
    path = tmp_path / "clip"
    download.value.save_as(path)
    clip = decode(path.read_bytes(), response_format)
    assert clip.rms > SILENCE_RMS
    shown_s: float = page.evaluate("rhapsode.player.duration")
    assert clip.duration_s == pytest.approx(shown_s, abs=0.2)


def test_stop_ends_it_on_the_server_too(open_page: OpenPage, server: Server) -> None:
    page = open_page("speak")
    with page.expect_response("**/v1/audio/speech") as answer:
        ask(page, WITHOUT_END)
    until(page, "rhapsode.player.currentTime > 0.1")
    page.click("#stop-button")
    expect_state(page, "stopped")
    expect(page.locator("#stop-button")).to_be_hidden()
    stopped = answer.value.headers["x-request-id"]

    def how_it_ended() -> list[str]:
        entries = server.get("/v1/requests")["data"]
        return [entry["status"] for entry in entries if entry["id"] == stopped]

    wait_for(lambda: how_it_ended() == ["left"], LIMIT_S, "the server has let go of it")
    heard_s = page.evaluate("rhapsode.player.currentTime")
    assert not page.evaluate("rhapsode.player.isPlaying")
    page.click("#play")
    until(page, f"rhapsode.player.currentTime > {heard_s}")


def test_history_plays_again_after_a_reload(open_page: OpenPage) -> None:
    page = open_page("speak")
    ask(page, FIVE_SECONDS)
    expect(page.get_by_test_id("history-row")).to_have_count(1)
    page.reload()
    row = page.get_by_test_id("history-row")
    expect(row).to_contain_text(FIVE_SECONDS)
    row.get_by_test_id("history-play").click()
    until(page, "rhapsode.player.currentTime > 0.2 && rhapsode.player.peak > 0.05")
    row.get_by_test_id("history-delete").click()
    expect(row).to_have_count(0)
    page.reload()
    expect(page.get_by_test_id("history-empty")).to_be_visible()


def test_what_the_engine_does_not_honour_says_so_and_is_not_sent(open_page: OpenPage) -> None:
    page = open_page("speak")
    expect(page.locator("#model")).to_have_value("espeak-ng")
    for name in ("temperature", "top-p"):
        expect(page.locator(f"#{name}")).to_be_disabled()
        reason = page.locator(f"#{name.replace('-', '_')}-reason")
        expect(reason).to_have_text("Not supported by espeak-ng")
    expect(page.get_by_test_id("strategy-quality")).to_be_disabled()
    page.locator("#speed").fill("1.5")
    with page.expect_request("**/v1/audio/speech") as request:
        ask(page, "Hello.")
    sent = json.loads(request.value.post_data or "")
    assert sent["speed"] == 1.5
    assert not {"temperature", "top_p", "strategy"} & set(sent)
    expect_state(page, "done")


def test_a_refusal_is_told_in_words_with_the_request_id(open_page: OpenPage) -> None:
    page = open_page("speak", forgiven="400 (Bad Request)")
    with page.expect_response("**/v1/audio/speech") as answer:
        ask(page, "word " * 110_000)
    toast = page.get_by_test_id("toast-error")
    expect(toast).to_contain_text("input")
    expect(toast.locator("code")).to_have_text(answer.value.headers["x-request-id"])
    expect_state(page, "failed")
