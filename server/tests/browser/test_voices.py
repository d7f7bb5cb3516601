"""Voices: one is made of a file or of what the microphone hears, spoken with, changed, deleted."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from server.tests.browser.conftest import RECORDED
from server.tests.browser.pages import LIMIT_S, OpenPage, Server, until

# Whoever adds a voice may wait for its text to be written down.
LIMIT_MS = LIMIT_S * 1000


@pytest.fixture(autouse=True)
def no_voices_are_left(server: Server) -> Iterator[None]:
    yield
    for voice in server.get("/v1/audio/voices")["data"]:
        if voice["type"] == "audio_sample":
            httpx.delete(f"{server.base_url}/v1/audio/voices/{voice['id']}").raise_for_status()


def upload(page: Page, recording: Path, name: str) -> Locator:
    """Add a voice by file; its card."""
    page.click("#voices-add")
    page.set_input_files("#add-file", recording)
    page.fill("#add-name", name)
    page.fill("#add-text", RECORDED)
    page.select_option("#add-language", "en")
    page.click("#add-save")
    card = page.get_by_test_id("voice").filter(has_text=name)
    expect(card).to_be_visible(timeout=LIMIT_MS)
    return card


def test_an_uploaded_voice_speaks(open_page: OpenPage, recording: Path) -> None:
    page = open_page("voices")
    card = upload(page, recording, "Ada")
    expect(card.get_by_test_id("voice-text")).to_have_value(RECORDED)
    expect(card.get_by_test_id("voice-report")).to_be_visible()
    voice = card.get_attribute("data-voice")
    card.get_by_test_id("voice-speak").click()
    expect(page.get_by_test_id("voice").and_(page.locator("input"))).to_have_value("Ada")
    page.fill("#text", "Hello.")
    with page.expect_request("**/v1/audio/speech") as request:
        page.keyboard.press("Control+Enter")
    assert json.loads(request.value.post_data or "")["voice"] == voice
    expect(page.locator("#state")).to_have_attribute("data-state", "done", timeout=LIMIT_MS)
    expect(page.get_by_test_id("notes")).to_contain_text("espeak-ng")
    until(page, "rhapsode.player.peak > 0.05")


def test_the_microphone_gives_a_voice_whose_text_is_written_down(open_page: OpenPage) -> None:
    page = open_page("voices")
    page.click("#voices-add")
    page.click("#add-record")
    expect(page.locator("#add-level-words")).to_have_text("Good level.", timeout=LIMIT_MS)
    until(page, "parseFloat(document.getElementById('add-record-time').textContent) > 4")
    page.click("#add-record-stop")
    until(page, "document.getElementById('add-player').duration > 3.5")
    page.fill("#add-name", "Recorded")
    page.click("#add-save")
    card = page.get_by_test_id("voice").filter(has_text="Recorded")
    expect(card.get_by_test_id("voice-text")).to_have_value(
        re.compile(r"\w+ \w+"), timeout=LIMIT_MS
    )


def test_a_voice_is_heard_renamed_taken_along_and_brought_back(
    open_page: OpenPage, recording: Path, tmp_path: Path
) -> None:
    page = open_page("voices")
    card = upload(page, recording, "Ada")
    listen = card.get_by_test_id("voice-listen")
    listen.click()
    expect(listen).to_have_attribute("aria-pressed", "true")
    card.get_by_test_id("voice-name").fill("Grace")
    card.get_by_test_id("voice-save").click()
    card = page.get_by_test_id("voice").filter(has_text="Grace")
    expect(card).to_be_visible()
    with page.expect_download() as download:
        card.get_by_test_id("voice-export").click()
    archive = tmp_path / download.value.suggested_filename
    download.value.save_as(archive)
    assert ZipFile(archive).testzip() is None
    card.get_by_test_id("voice-delete").click()
    page.get_by_test_id("dialog-cancel").click()
    expect(card).to_be_visible()
    card.get_by_test_id("voice-delete").click()
    page.get_by_test_id("dialog-confirm").click()
    expect(card).to_have_count(0)
    page.set_input_files("#voices-import", archive)
    expect(card.get_by_test_id("voice-text")).to_have_value(RECORDED)


def test_a_name_that_is_taken_is_told_where_it_can_be_put_right(
    open_page: OpenPage, recording: Path
) -> None:
    page = open_page("voices", forgiven="the server responded with a status of 4")
    upload(page, recording, "Ada")
    page.click("#voices-add")
    page.set_input_files("#add-file", recording)
    page.fill("#add-name", "Ada")
    page.fill("#add-text", RECORDED)
    page.click("#add-save")
    expect(page.locator("#add-problem")).to_be_visible()
    expect(page.locator("#add-name")).to_have_attribute("aria-invalid", "true")


def test_voices_are_found_by_their_language(open_page: OpenPage) -> None:
    page = open_page("voices")
    tiles = page.get_by_test_id("voice-tile")
    expect(tiles.first).to_be_visible()
    count = tiles.count()
    page.fill("#voices-search", "french")
    until(page, f"document.querySelectorAll('[data-testid=voice-tile]').length < {count}")
    expect(tiles.first).to_contain_text("French")
    page.fill("#voices-search", "no such voice")
    expect(page.locator("#voices-none")).to_be_visible()
