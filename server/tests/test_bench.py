"""The bench against a server of its own whose engine gives tones."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from server.bench.glm import _crowd_figures
from server.bench.host import _toml
from server.bench.measure import PCM_BYTES_PER_S, Crowd, Stream, milliseconds, percentile
from server.bench.plot import Chart, Line, svg
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


def test_plot_is_xml_with_a_dot_for_each_value() -> None:
    chart = Chart("a < b", ("1", "4"), (Line("p50", (1.0, None)), Line("p95", (2.0, 3.0))))
    root = ET.fromstring(svg([chart, chart]))  # noqa: S314  our own
    assert len(root.findall(".//{*}circle")) == 6


def test_settings_are_written_as_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rhapsode.toml"
    options = {"block_tokens": [25, 50], "model": 'a "b" \\ c', "download": False}
    tree = {"engines": {TONE: {"devices": ["cpu"], "options": options}}, "speech_engines": [TONE]}
    path.write_text(_toml(tree), encoding="utf-8")
    settings = load_settings(path, {})
    assert settings.engines[TONE].options == options
    assert settings.speech_engines == (TONE,)


def test_bench_measures_a_server_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures" / "tone.json"
    command = ["bench", "glm", "--engine", TONE, "--devices", "cpu", "--voice", "low"]
    command += ["--calls", "2", "--long-clips", "3", "--streams", "1", "3"]
    command += ["--warm-up-s", "0.1", "--measured-s", "0.3", "--out", str(out)]
    assert main(command) == 0, capsys.readouterr().err
    stored = json.loads(out.read_text())
    figures = stored["figures"]
    assert figures == json.loads(capsys.readouterr().out)
    assert figures["one"]["audio_s"] == pytest.approx(1.8)
    assert figures["long_to_short"]["audio"] == pytest.approx(3)
    assert [row["clients"] for row in figures["streams"]] == [1, 3]
    assert all(row["audio_s_per_s"] > 1 for row in figures["streams"])
    assert figures["memory_loaded"]["host_mib"] > 10
    assert {"command", "date", "packages"} <= set(stored)
    assert ET.parse(out.with_suffix(".svg")).getroot().tag.endswith("svg")  # noqa: S314


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
