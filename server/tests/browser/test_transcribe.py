"""Transcribe: segments come while it listens, seek the recording, and are saved as files."""

import io
import json
from pathlib import Path

import av
from playwright.sync_api import Page, expect

from compat_tests.texts import share_heard
from server.tests.browser.conftest import RECORDED
from server.tests.browser.pages import LIMIT_S, OpenPage, until

LIMIT_MS = LIMIT_S * 1000


def saved(page: Page, extension: str) -> bytes:
    with page.expect_download() as download:
        page.click(f"#transcribe-save-{extension}")
    assert download.value.suggested_filename == f"talk.{extension}"
    return download.value.path().read_bytes()


def test_segments_come_one_by_one_while_it_listens(open_page: OpenPage, talk: Path) -> None:
    page = open_page("transcribe")
    page.set_input_files("#transcribe-file", talk)
    page.evaluate("""() => {
        window.seen = [];
        const result = document.getElementById("transcribe-result");
        const note = () => {
            const count = result.querySelectorAll("[data-testid=segment]").length;
            if (count > (seen.at(-1)?.count ?? 0))
                seen.push({ count, at: performance.now(), busy: result.ariaBusy });
        };
        new MutationObserver(note).observe(result, { childList: true, subtree: true });
    }""")
    page.click("#transcribe-start")
    expect(page.locator("#transcribe-copy")).to_be_visible(timeout=LIMIT_MS)
    seen = page.evaluate("seen")
    assert [each["count"] for each in seen] == list(range(1, len(seen) + 1))
    assert len(seen) >= 3
    assert {each["busy"] for each in seen} == {"true"}
    # Not all at once behind the end.
    assert seen[-1]["at"] - seen[0]["at"] > 50
    text = " ".join(page.get_by_test_id("segment").all_text_contents())
    assert share_heard(RECORDED, text) > 0.4


def test_a_segment_plays_from_its_start_and_files_hold_what_was_said(
    open_page: OpenPage, talk: Path
) -> None:
    page = open_page("transcribe")
    page.set_input_files("#transcribe-file", talk)
    page.click("#transcribe-start")
    expect(page.locator("#transcribe-copy")).to_be_visible(timeout=LIMIT_MS)
    segment = page.get_by_test_id("segment").nth(1)
    start_s = float(segment.get_attribute("data-start") or 0)
    assert start_s > 1
    page.evaluate("""() => {
        const player = document.getElementById("transcribe-player");
        player.addEventListener("seeking", () => (window.sought_s = player.currentTime));
    }""")
    segment.click()
    until(page, f"Math.abs(window.sought_s - {start_s}) < 0.01")
    until(page, f"document.getElementById('transcribe-player').currentTime > {start_s} + 0.1")
    expect(segment).to_have_attribute("aria-current", "true")
    whole = json.loads(saved(page, "json"))
    assert len(whole["text"].split()) > 5
    assert saved(page, "txt").decode().strip() == whole["text"]
    for extension, demuxer in (("srt", "srt"), ("vtt", "webvtt")):
        with av.open(io.BytesIO(saved(page, extension)), format=demuxer, mode="r") as file:
            cues = [packet for packet in file.demux() if packet.size]
        assert b" ".join(map(bytes, cues)).decode().split() == whole["text"].split()
        starts_s = [float((cue.pts or 0) * cue.time_base) for cue in cues]
        assert starts_s == sorted(starts_s)
        assert abs(starts_s[0] - whole["segments"][0]["start"]) < 0.01


def test_what_the_microphone_hears_is_written_down(open_page: OpenPage) -> None:
    page = open_page("transcribe")
    page.click("#transcribe-record")
    until(page, "parseFloat(document.getElementById('transcribe-record-time').textContent) > 2")
    page.click("#transcribe-record-stop")
    page.click("#transcribe-start")
    expect(page.get_by_test_id("segment").first).to_be_visible(timeout=LIMIT_MS)


def test_what_is_no_recording_is_refused_in_words(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page("transcribe", forgiven="400 (Bad Request)")
    junk = tmp_path / "junk.wav"
    junk.write_bytes(b"no sound" * 100)
    page.set_input_files("#transcribe-file", junk)
    page.click("#transcribe-start")
    expect(page.get_by_test_id("toast-error")).to_contain_text("not")
    expect(page.locator("#transcribe-start")).to_be_enabled()
