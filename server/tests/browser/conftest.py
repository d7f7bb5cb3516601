"""One server with a key, one without, and one Chromium, for all tests of this folder.

The fixtures live no longer than the folder: Playwright keeps an event loop running while its
browser does, and a test elsewhere that starts one of its own would fail.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from compat_tests.audio import decode
from compat_tests.process import ServerProcess
from compat_tests.recordings import encode, joined, silence
from server.tests.browser.pages import KEY, MOVABLE, SCREEN, OpenPage, Server, View

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
"""Where CHROMIUM names a browser, it has to work: then nothing here is skipped."""

RECORDED = "Good morning. The weather is very nice today. There is nothing new about this story."
LIMIT_MS = 15_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


@contextmanager
def running(folder: Path, env: Mapping[str, str]) -> Iterator[ServerProcess]:
    folders = {"XDG_DATA_HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    server = ServerProcess(folder / "log", {**folders, **env})
    try:
        server.wait_until_ready()
        yield server
    finally:
        status = server.stop()
    assert status == 0


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that takes texts long enough to be stopped in the middle."""
    folder = tmp_path_factory.mktemp("server")
    with running(folder, {"RHAPSODE_LIMITS__INPUT_CHARS": "500000"}) as process:
        yield Server(process.base_url)


@pytest.fixture(scope="package")
def keyed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that wants a key for everything, with an engine that can leave its device."""
    folder = tmp_path_factory.mktemp("keyed-server")
    config = folder / "rhapsode.toml"
    config.write_text(
        f'api_keys = ["{KEY}"]\nopen_catalog = false\n[engines."{MOVABLE}"]\ndevices = ["tone:0"]\n'
    )
    with running(folder, {"RHAPSODE_CONFIG": str(config)}) as process:
        yield Server(process.base_url, {"authorization": f"Bearer {KEY}"})


def spoken(server: Server, text: str) -> bytes:
    """A wave file of the text, in the voice that the embedded recogniser understands best."""
    body = {"model": "tts-1", "voice": "ash", "input": text, "response_format": "wav"}
    answer = httpx.post(f"{server.base_url}/v1/audio/speech", json=body, timeout=20)
    return answer.raise_for_status().content


@pytest.fixture(scope="package")
def recording(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RECORDED, spoken: about six seconds."""
    path = tmp_path_factory.mktemp("recording") / "ada.wav"
    path.write_bytes(encode(decode(spoken(server, RECORDED), "wav"), "wav"))
    return path


@pytest.fixture(scope="package")
def talk(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences with a second between them."""
    said = [decode(spoken(server, f"{each}."), "wav") for each in RECORDED.strip(".").split(". ")]
    pause = silence(1.0, said[0].sample_rate)
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    path.write_bytes(encode(joined(*(clip for each in said for clip in (each, pause))), "wav"))
    return path


@pytest.fixture(scope="package")
def executable() -> str:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here; the environment variable CHROMIUM may name one")
    return CHROMIUM


@pytest.fixture(scope="package")
def browser(executable: str, recording: Path) -> Iterator[Browser]:
    """Its microphone hears the recording, again and again."""
    arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={recording}",
    ]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield chromium
        chromium.close()


class Watch:
    """Hears all that a page complains of: scripts, words that are missing, its security policy."""

    def __init__(self) -> None:
        self.complaints: list[str] = []

    def over(self, page: Page, forgiven: str | None) -> None:
        def heard(message: ConsoleMessage) -> None:
            is_forgiven = forgiven is not None and forgiven in message.text
            if message.type in ("error", "warning") and not is_forgiven:
                self.complaints.append(f"{message.text} ({message.location['url']})")

        page.on("console", heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[OpenPage]:
    """Opens a page in a browser profile of its own; at the end, none has complained of anything."""
    watch = Watch()
    contexts: list[BrowserContext] = []

    def open_(
        tab: str, view: View = SCREEN, at: Server | None = None, forgiven: str | None = None
    ) -> Page:
        context = browser.new_context(
            viewport={"width": view.width, "height": view.height},
            color_scheme=view.theme,
            locale=view.locale,
            permissions=["microphone"],
        )
        context.set_default_timeout(LIMIT_MS)
        contexts.append(context)
        page = context.new_page()
        watch.over(page, forgiven)
        page.goto(f"{(at or server).base_url}/#{tab}")
        page.locator(f"#panel-{tab} h1").wait_for(state="attached")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert watch.complaints == []
