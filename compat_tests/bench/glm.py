"""How GLM-TTS serves: `python -m compat_tests.bench.glm --device cuda --out FILE.json`.

Starts a server whose GLM-TTS has random weights (noise at a real model's pace), or those in
`--model`, and asks it over HTTP for clips with the voice of a prompt that is built in.
"""

import argparse
import asyncio
import contextlib
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from compat_tests.audio import PCM_BYTES_PER_S
from compat_tests.bench.machine import packages, provenance
from compat_tests.bench.measure import Caller, Timed, percentile, speak_at_once
from compat_tests.bench.run import Figures, own_server, report
from compat_tests.bench.speech import milliseconds
from compat_tests.process import ServerProcess

TEXT = "The harbour was quiet tonight, and one lamp still burned over the old door by the sea wall."
"""One piece of speech. With random weights a byte of it is a token."""
TOKENS_PER_S = 25
ENGINE = "glm-tts"
LOAD_S = 300.0


def settings(options: argparse.Namespace, text: str) -> str:
    """TOML: that engine alone, and clips of as many seconds as are asked for."""
    ratio = options.seconds * TOKENS_PER_S / len(text)
    weights = (
        f'model = "{options.model}"'
        if options.model
        else f'random_weights = 0\nsize = "{options.size}"'
    )
    devices = ", ".join(f'"{device}"' for device in options.device.split(","))
    return f"""
speech_engines = ["{ENGINE}"]
[pool]
wait_s = {LOAD_S}
[engines.espeak-ng]
enabled = false
[engines.whisper]
enabled = false
[engines.pocketsphinx]
enabled = false
[engines.{ENGINE}]
devices = [{devices}]
[engines.{ENGINE}.options]
{weights}
min_tokens_per_text_token = {ratio}
max_tokens_per_text_token = {ratio + 0.001}
"""


@contextlib.contextmanager
def glm_server(options: argparse.Namespace, text: str) -> Iterator[ServerProcess]:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "rhapsode.toml"
        config.write_text(settings(options, text))
        env = {"RHAPSODE_CONFIG": str(config), "XDG_CACHE_HOME": folder, "XDG_DATA_HOME": folder}
        with own_server(env, LOAD_S) as server:
            yield server


def speech(text: str, response_format: str = "pcm", seed: int | None = 1) -> dict[str, object]:
    return {
        "model": ENGINE,
        "voice": "alloy",
        "input": text,
        "response_format": response_format,
        "seed": seed,
    }


def audio_s(answer: Timed) -> float:
    return len(answer.body) / PCM_BYTES_PER_S


def one_at_a_time(base_url: str, text: str, calls: int, warm_up: int) -> Figures:
    """TTFA and RTF of one stream, warm. What a seed gives is the same each time."""
    with contextlib.closing(Caller(base_url)) as caller:
        for _ in range(warm_up):
            caller.speak(speech(text))
        answers = [caller.speak(speech(text)) for _ in range(calls)]
    wall_s = statistics.median(answer.total_s for answer in answers)
    return {
        "audio_s": round(audio_s(answers[0]), 2),
        "ttfa": milliseconds([answer.first_byte_s for answer in answers]),
        "wall_s": round(wall_s, 4),
        "rtf": round(wall_s / audio_s(answers[0]), 4),
        "repeats": all(answer.body == answers[0].body for answer in answers),
    }


def all_at_once(base_url: str, text: str, streams: int) -> Figures:
    """A crowd that asks at the same moment."""
    began = time.perf_counter()
    answers = asyncio.run(speak_at_once(base_url, speech(text, seed=None), streams))
    wall_s = time.perf_counter() - began
    total_s = sum(map(audio_s, answers))
    underruns = [answer.underrun_s(PCM_BYTES_PER_S) for answer in answers]
    return {
        "streams": streams,
        "audio_s": round(total_s, 1),
        "wall_s": round(wall_s, 2),
        "audio_s_per_s": round(total_s / wall_s, 1),
        "ttfa": milliseconds([answer.first_byte_s for answer in answers]),
        "underrun_p95_ms": round(percentile(underruns, 95) * 1000, 1),
        "with_underrun": sum(underrun > 0.0 for underrun in underruns),
    }


def gpu() -> Figures:
    """What the driver says of the devices; empty where there is none."""
    if (command := shutil.which("nvidia-smi")) is None:
        return {}
    query = "--query-gpu=name,driver_version,memory.used,memory.total"
    done = subprocess.run(
        [command, query, "--format=csv,noheader"], capture_output=True, text=True, check=True
    )
    return {f"gpu {index}": line for index, line in enumerate(done.stdout.splitlines())}


def measure(server: ServerProcess, options: argparse.Namespace) -> Figures:
    """All figures of a running server."""
    base_url = server.base_url
    figures: Figures = {"gpu_loaded": gpu()}
    (model,) = [
        model
        for model in httpx.get(f"{base_url}/v1/models").json()["data"]
        if model["id"] == ENGINE
    ]
    figures["engine"] = model["description"]
    figures["one"] = one_at_a_time(base_url, TEXT, options.calls, 3)
    if options.long:
        text = " ".join([TEXT] * options.long)
        figures["one_long"] = one_at_a_time(base_url, text, max(1, options.calls // 5), 1)
    for streams in options.streams:
        all_at_once(base_url, TEXT, streams)
        figures[f"crowd_{streams}"] = all_at_once(base_url, TEXT, streams)
    figures["gpu_after"] = gpu()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    parser.add_argument("--device", default="cuda", help="one, or several: cuda:0,cuda:1")
    parser.add_argument("--model", help="folder of a checkpoint; default: random weights")
    parser.add_argument("--size", default="true", choices=("true", "tiny"))
    parser.add_argument("--seconds", type=float, default=10.0, help="of a clip")
    parser.add_argument("--calls", type=int, default=20, help="calls one after the other")
    parser.add_argument("--long", type=int, default=6, help="clips' texts in the long one")
    parser.add_argument("--streams", type=int, nargs="*", default=[8, 32, 64], help="calls at once")
    options = parser.parse_args()
    facts = provenance("compat_tests.bench.glm")
    facts["packages"] = packages("torch", "torchaudio", "triton", "onnxruntime", "litestar")
    began = time.monotonic()
    with glm_server(options, TEXT) as server:
        ready_s = time.monotonic() - began
        figures = {"start_to_ready_s": round(ready_s, 1), **measure(server, options)}
    report(facts, figures, options.out)


if __name__ == "__main__":
    main()
