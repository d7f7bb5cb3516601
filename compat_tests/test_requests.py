"""What a request cost: told in its stream, kept in the list of requests, counted for Prometheus."""

import re
import time
from typing import Any

import httpx
from openai import OpenAI

from compat_tests.audio import PCM_BYTES_PER_S
from compat_tests.events import audio_of, events_of
from compat_tests.texts import PARAGRAPH

FIGURES = {"ttfa_s", "audio_s", "rtf", "underrun_s", "wall_s"}


def metric(http: httpx.Client, pattern: str) -> float:
    """The sum of a metric's lines whose name and labels match."""
    text = http.get("/metrics").raise_for_status().text
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return sum(float(value) for name, _, value in lines if re.fullmatch(pattern, name))


def test_a_stream_tells_how_far_it_is_and_what_it_cost(client: OpenAI, http: httpx.Client) -> None:
    done = r'rhapsode_requests_total\{task="speech",.*outcome="done".*\}'
    before, began = metric(http, done), time.time()
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=PARAGRAPH, response_format="pcm", stream_format="sse"
    ) as response:
        *deltas, end = events_of(response.iter_lines())
        ttfa_ms, request_id = response.headers["x-rhapsode-ttfa-ms"], response.request_id

    progress = [delta["progress"] for delta in deltas]
    assert progress == sorted(progress)
    assert progress[0] < 0.5
    assert progress[-1] == 1.0
    figures: dict[str, Any] = end["rhapsode"]
    assert set(figures) == FIGURES
    assert abs(figures["audio_s"] - len(audio_of(deltas)) / PCM_BYTES_PER_S) < 0.01
    assert abs(int(ttfa_ms) / 1000 - figures["ttfa_s"]) < 0.002
    assert 0 < figures["ttfa_s"] <= figures["wall_s"]
    assert 0 < figures["rtf"] < 1

    listed = http.get("/v1/requests").raise_for_status()
    assert PARAGRAPH[:20] not in listed.text
    (entry,) = [entry for entry in listed.json()["data"] if entry["id"] == request_id]
    assert (entry["object"], entry["task"], entry["status"]) == ("request", "speech", "done")
    assert (entry["model"], entry["voice"], entry["format"]) == ("tts-1", "alloy", "pcm")
    assert began - 2 < entry["created_at"] <= time.time()
    assert {name: entry[name] for name in ("ttfa_s", "audio_s")} == {
        name: figures[name] for name in ("ttfa_s", "audio_s")
    }

    assert metric(http, done) >= before + 1
    assert metric(http, r'rhapsode_ttfa_seconds_bucket\{task="speech",.*le="\+Inf"\}') >= 1
