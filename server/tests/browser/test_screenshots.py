"""Pictures of the main states, for README.md: kept where SCREENSHOTS names a folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from compat_tests.texts import PARAGRAPH
from server.tests.browser.conftest import RECORDED
from server.tests.browser.pages import PHONE, OpenPage, Server, View, until

LIMIT_MS = 20_000
FOLDER = os.environ.get("SCREENSHOTS")

pytestmark = pytest.mark.skipif(FOLDER is None, reason="SCREENSHOTS names no folder")


def keep(page: Page, name: str) -> None:
    """As PNG; nothing moves, and the pointer is over nothing."""
    page.mouse.move(0, 0)
    page.screenshot(path=f"{FOLDER}/{name}.png", animations="disabled", caret="hide")


def speak(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.click("#speak-button")
    until(page, "rhapsode.player.currentTime > 2")


@pytest.fixture
def ada(server: Server, recording: Path) -> Iterator[None]:
    """A voice of somebody's."""
    voices = f"{server.base_url}/v1/audio/voices"
    fields = {"name": "Ada", "prompt_text": RECORDED, "language": "en"}
    with recording.open("rb") as file:
        answer = httpx.post(voices, data=fields, files={"audio_sample": file}, timeout=20)
    voice = answer.raise_for_status().json()
    yield
    httpx.delete(f"{voices}/{voice['id']}").raise_for_status()


def test_speak(open_page: OpenPage) -> None:
    page = open_page("speak")
    speak(page, PARAGRAPH)
    keep(page, "speak")


@pytest.mark.usefixtures("ada")
def test_voices(open_page: OpenPage) -> None:
    page = open_page("voices")
    page.get_by_test_id("voice-more").click()
    expect(page.get_by_test_id("voice-report")).to_be_visible()
    keep(page, "voices")


def test_transcribe(open_page: OpenPage, talk: Path) -> None:
    page = open_page("transcribe")
    page.set_input_files("#transcribe-file", talk)
    page.click("#transcribe-start")
    expect(page.locator("#transcribe-copy")).to_be_visible(timeout=LIMIT_MS)
    page.get_by_test_id("toast-note").get_by_role("button").click()
    page.get_by_test_id("segment").nth(1).click()
    expect(page.get_by_test_id("segment").nth(1)).to_have_attribute("aria-current", "true")
    keep(page, "transcribe")


def test_status(open_page: OpenPage) -> None:
    page = open_page("speak")
    speak(page, PARAGRAPH)
    page.click("#tab-status")
    expect(page.get_by_test_id("request").first).to_be_visible()
    keep(page, "status")


def test_speak_on_a_phone(open_page: OpenPage) -> None:
    page = open_page("speak", View(PHONE.width, PHONE.height, "dark", "zh"))
    speak(
        page,
        "夜里下了一场雨。清早，整条街都是桂花的香味，卖豆浆的人刚刚把炉子点着，学校的钟声从河对岸传来。",
    )
    page.evaluate("window.scrollTo(0, 0)")
    keep(page, "speak-phone")


def test_status_on_a_phone(open_page: OpenPage) -> None:
    page = open_page("status", View(PHONE.width, PHONE.height, "dark", "ja"))
    expect(page.get_by_test_id("engine").first).to_be_visible()
    keep(page, "status-phone")
