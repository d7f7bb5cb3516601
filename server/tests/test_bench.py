"""The bench against a server of its own whose engine gives tones."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.bench.crowd import Crowd
from server.bench.flat import flat
from server.bench.glm import _crowd_figures
from server.bench.host import _toml, free_bytes
from server.bench.measure import (
    PCM_BYTES_PER_S,
    BenchError,
    Figures,
    Stream,
    milliseconds,
    percentile,
)
from server.bench.plan import Plan, timing_arguments
from server.bench.quality import character_error_rate
from server.cli import main
from server.settings import load_settings

TONE = "engine.tests.fake:ToneSynthesizer"
SECOND = PCM_BYTES_PER_S


def test_underrun_is_the_silence_of_a_player_that_starts_at_once() -> None:
    steady = Stream(0.0, [(0.1, SECOND), (1.0, SECOND)])
    late = Stream(0.0, [(0.1, SECOND), (1.6, SECOND), (2.0, SECOND), (4.0, SECOND)])
    assert steady.underrun_s == 0
    assert late.underrun_s == pytest.approx(0.5 + 0.4)
    assert late.ttfa_s == pytest.approx(0.1)
    assert steady.played_until_s == pytest.approx(2.1)
    assert late.played_until_s == pytest.approx(5.0)


def test_throughput_counts_what_arrives_while_it_is_measured() -> None:
    early = Stream(0.0, [(1.0, SECOND), (11.0, SECOND)], is_whole=True)
    inside = Stream(12.0, [(13.0, SECOND), (16.0, SECOND)])
    figures = _crowd_figures(
        Crowd([early, inside], began_s=10.0, ended_s=20.0, refused=2, unheard=0)
    )
    assert figures["audio_s_per_s"] == 0.3
    assert figures["clips"] == 1
    assert figures["refused"] == 2
    assert figures["share_with_underrun"] == 1.0
    assert figures["ttfa"] == {"n": 1} | dict.fromkeys(
        ("p50_ms", "p95_ms", "p99_ms", "max_ms"), 1000.0
    )


def test_percentile_is_a_value_that_was_measured() -> None:
    assert [percentile([3, 1, 2, 4], percent) for percent in (0, 50, 51, 100)] == [1, 2, 3, 4]
    assert milliseconds([]) == {"n": 0}


@pytest.mark.parametrize(
    ("heard", "rate"),
    [("Hello, World!", 0), ("hello word", 0.1), ("", 1), ("hello worlds", 0.1), ("你好", 1)],
)
def test_character_error_rate_counts_letters(heard: str, rate: float) -> None:
    assert character_error_rate("Hello, world.", heard) == pytest.approx(rate)


FLAT = {
    "rtf_c1_10s": 0.03,
    "ttfa_ms_p50_c1": 70.0,
    "ttfa_ms_p95_c32": 200.0,
    "underrun_share_c32": 0.01,
    "audio_s_per_s_c64": 300.0,
    "llm_step_ms_b1": 1.1,
    "llm_step_ms_b32": 1.6,
    "llm_step_ms_b64": 2.0,
    "vocoder_ms_10s": 5.0,
    "device_gb_c1": 6.0,
    "ready_s": 10.0,
    "wake_host_s": 0.4,
    "wake_stopped_s": 12.0,
    "cost_60s_over_10s": 1.2,
    "scaling_2gpu": 1.9,
    "scaling_4gpu": None,
}


def raw() -> Figures:
    def row(clients: int, audio_s_per_s: float, **more: int) -> Figures:
        ttfa = {"n": 9, "p50_ms": 150.0, "p95_ms": 200.0}
        share = {"share_with_underrun": 0.01}
        return {
            "clients": clients, "audio_s_per_s": audio_s_per_s, "ttfa": ttfa, **share, **more
        }  # fmt: skip

    used = {"device": "cuda:0", "total_bytes": 80 * 10**9, "free_bytes": 74 * 10**9}
    return {
        "timing": {
            "llm_step_ms": {"300": {"1": 1.0}, "600": {"1": 1.1, "32": 1.6, "64": 2.0}},
            "vocoder_ms_10s": 5.0,
        },
        "start_to_ready_s": 10.0,
        "one": {"audio_s": 10.04, "rtf": 0.03, "ttfa": {"p50_ms": 70.0}},
        "one_long": {"audio_s": 60.4, "rtf": 0.036, "ttfa": {"p50_ms": 80.0}},
        "memory_one": {"host_mib": 9, "engine": [used]},
        "streams": [row(1, 20.0), row(32, 170.0), row(64, 300.0)],
        "players": [row(32, 1.0)],
        "offload": {"load_s": 0.4, "first_call_ttfa_s": 0.5},
        "stop": {"load_s": 12.0, "first_call_ttfa_s": 12.5},
        "scaling": [row(48, 200.0, devices=1), row(96, 380.0, devices=2)],
    }


def test_flat_keys_are_read_off_the_raw_figures() -> None:
    assert flat(raw()) == FLAT


def test_flat_keys_are_all_there_when_nothing_was_measured() -> None:
    assert flat({}) == dict.fromkeys(FLAT)


def test_clip_of_another_length_is_no_clip_of_ten_seconds() -> None:
    short = {"audio_s": 6.0, "rtf": 0.03, "ttfa": {"p50_ms": 70.0}}
    found = flat({**raw(), "one": short})
    assert found["rtf_c1_10s"] is None
    assert found["cost_60s_over_10s"] is None
    assert found["ttfa_ms_p50_c1"] == 70


def test_clients_begin_within_half_a_clip_unless_told() -> None:
    assert Plan().load(32).stagger_s == pytest.approx(10 / 64)
    assert Plan(stagger_s=0.0).load(32).stagger_s == 0


def test_scaling_takes_named_devices_or_counts_them() -> None:
    assert Plan().on_devices(2).devices == ("cuda:0", "cuda:1")
    assert Plan(devices=("cuda:3", "cuda:5")).on_devices(1).devices == ("cuda:3",)
    assert Plan(devices=("cuda:3",)).on_devices(2).devices == ("cuda:0", "cuda:1")


def fake_driver(folder: Path, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{says}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_free_bytes_are_the_drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_driver(tmp_path, "1000 MiB\\n0 MiB\\n", monkeypatch)
    assert free_bytes() == {"device_0": 1000 << 20, "device_1": 0}


def test_more_devices_than_there_are_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_driver(tmp_path, "NVIDIA H200\\n", monkeypatch)
    Plan(scaling=(1,)).check()
    with pytest.raises(BenchError, match="--scaling 2"):
        Plan(scaling=(1, 2)).check()


def test_timing_is_of_the_model_that_is_measured() -> None:
    plan = Plan(devices=("cuda:1", "cuda:2"), size="tiny", model="here")
    expected = ("--device", "cuda:1", "--size", "tiny", "--model", "here")
    assert tuple(timing_arguments(plan)) == expected


def test_settings_are_written_as_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rhapsode.toml"
    options = {"block_tokens": [25, 50], "model": 'a "b" \\ c', "download": False}
    tree = {"engines": {TONE: {"devices": ["cpu"], "options": options}}, "speech_engines": [TONE]}
    path.write_text(_toml(tree), encoding="utf-8")
    settings = load_settings(path, {})
    assert settings.engines[TONE].options == options
    assert settings.speech_engines == (TONE,)


def bench_of_tones(out: Path) -> list[str]:
    command = ["bench", "glm", "--engine", TONE, "--devices", "cpu", "--voice", "low"]
    command += ["--calls", "1", "--warm-up-s", "0.1", "--measured-s", "0.3", "--clip-s", "0.3"]
    return [*command, "--commit", "abc1234", "--out", str(out)]


def test_bench_measures_a_server_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures" / "tone.json"
    command = [*bench_of_tones(out), "--long-clips", "3", "--streams", "1", "3", "--players"]
    assert main(command) == 0, capsys.readouterr().err
    stored = json.loads(out.read_text())
    assert stored == json.loads(capsys.readouterr().out)
    assert stored.keys() >= {"command", "date", "packages"} | FLAT.keys()
    assert stored["commit"] == "abc1234"
    assert stored["ready_s"] > 0
    assert stored["wake_stopped_s"] > 0
    assert stored["wake_host_s"] is None
    assert stored["rtf_c1_10s"] is None
    figures = stored["figures"]
    assert figures["one"]["audio_s"] == pytest.approx(1.8)
    assert figures["long_to_short"]["audio"] == pytest.approx(3)
    assert [row["clients"] for row in figures["streams"]] == [1, 3]
    assert [row["stagger_s"] for row in figures["streams"]] == pytest.approx([0.15, 0.05])
    assert all(row["audio_s_per_s"] > 1 for row in figures["streams"])
    # A clip is longer than what is measured: nobody that plays it asks again.
    assert [row["ttfa"]["n"] for row in figures["players"]] == [0, 0]
    assert figures["memory_loaded"]["host_mib"] > 10
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_what_was_measured_before_a_failure_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Plan) -> Iterator[Figures]:
        yield raw()
        raise BenchError("the server broke a stream off")

    monkeypatch.setattr("server.bench.glm.run", broken)
    out = tmp_path / "half.json"
    assert main(bench_of_tones(out)) == 1
    assert "broke a stream off" in capsys.readouterr().err
    assert json.loads(out.read_text())["ready_s"] == FLAT["ready_s"]


def test_bench_without_matplotlib_says_how_to_get_the_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    out = tmp_path / "tone.json"
    command = [*bench_of_tones(out), "--long-clips", "0", "--streams", "1", "--scaling", "1"]
    assert main(command) == 0
    error = capsys.readouterr().err
    assert "rhapsode bench plot" in error
    assert error.count("\n") == 1
    stored = json.loads(out.read_text())
    assert [row["clients"] for row in stored["figures"]["scaling"]] == [48]
    assert not out.with_suffix(".png").exists()


def test_plot_is_drawn_later_from_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "later.json"
    path.write_text(json.dumps({"rhapsode": "1", "cores": 2, "figures": raw()}))
    assert main(["bench", "plot", str(path)]) == 0
    picture = path.with_suffix(".png")
    assert capsys.readouterr().out == f"{picture}\n"
    header = picture.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert int.from_bytes(header[16:20]) == 1600


def test_plot_of_something_else_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.json"
    path.write_text("[]")
    assert main(["bench", "plot", str(path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("pairs", "says"),
    [("[]", "has no pairs"), ('[{"voice": "alloy"}]', "missing required field"), ("{", "pairs")],
)
def test_pairs_that_are_none_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pairs: str, says: str
) -> None:
    path = tmp_path / "pairs.json"
    path.write_text(pairs)
    assert main(["bench", "quality", "--pairs", str(path)]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
