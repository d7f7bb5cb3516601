"""How many words the server mishears of its own voices: `python -m compat_tests.bench.accuracy`.

Speaks twenty sentences with each voice, transcribes them, and counts word errors. The figures say
how an engine fares with synthetic speech; people are understood better or worse.
"""

import argparse
import re
import statistics
import time
from pathlib import Path
from typing import Any

import httpx

from compat_tests.audio import decode
from compat_tests.bench.machine import provenance
from compat_tests.bench.run import own_server, report

SENTENCES = (
    "The boat left the harbour before the sun was up.",
    "Please put the letter on the table by the door.",
    "A cold wind came down from the mountain that night.",
    "She bought fresh bread and a pound of butter.",
    "The children played in the park until it was dark.",
    "He opened the window to let in the morning air.",
    "The train to the city leaves at half past nine.",
    "Two men carried the heavy box up the stairs.",
    "The old clock in the hall has stopped again.",
    "We walked along the river and talked for hours.",
    "The doctor asked him to come back next week.",
    "There was a small garden behind the house.",
    "I would like a cup of coffee and some cake.",
    "The teacher wrote the answer on the board.",
    "It has been raining since early this morning.",
    "They sold the farm and moved to another town.",
    "The black dog slept in front of the fire.",
    "My brother is reading a book about the sea.",
    "The road was long and the bridge was broken.",
    "Most people like to sit near the front.",
)
VOICES = ("alloy", "ash", "ballad", "echo", "marin", "nova")
TIMEOUT_S = 120.0


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def word_errors(said: list[str], heard: list[str]) -> int:
    """Insertions, deletions and substitutions between them, at least."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def measure_voice(http: httpx.Client, voice: str) -> dict[str, Any]:
    """Word error rate in percent over all sentences, and RTF of the transcriptions."""
    errors = total = 0
    audio_s = wall_s = 0.0
    engine = ""
    for sentence in SENTENCES:
        request = {"model": "tts-1", "voice": voice, "input": sentence, "response_format": "wav"}
        speech = http.post("/v1/audio/speech", json=request).raise_for_status().content
        began = time.perf_counter()
        answer = http.post(
            "/v1/audio/transcriptions",
            data={"model": "whisper-1", "language": "en"},
            files={"file": ("speech.wav", speech)},
        ).raise_for_status()
        wall_s += time.perf_counter() - began
        audio_s += decode(speech, "wav").duration_s
        engine = answer.headers["x-rhapsode-engine"]
        said = words(sentence)
        errors += word_errors(said, words(answer.json()["text"]))
        total += len(said)
    return {
        "engine": engine,
        "wer_percent": round(100 * errors / total, 1),
        "words": total,
        "rtf": round(wall_s / audio_s, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-url", help="a running server; default: start one")
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    options = parser.parse_args()
    facts = provenance("compat_tests.bench.accuracy")
    if options.base_url:
        base_url = options.base_url.rstrip("/").removesuffix("/v1")
        figures = measure(base_url)
    else:
        with own_server() as server:
            figures = measure(server.base_url)
    report(facts, figures, options.out)


def measure(base_url: str) -> dict[str, Any]:
    with httpx.Client(base_url=base_url, timeout=TIMEOUT_S) as http:
        figures: dict[str, Any] = {voice: measure_voice(http, voice) for voice in VOICES}
    figures["mean_wer_percent"] = round(
        statistics.mean(figure["wer_percent"] for figure in figures.values()), 1
    )
    return figures


if __name__ == "__main__":
    main()
