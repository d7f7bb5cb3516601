import json
from types import SimpleNamespace

import pytest
import torch

from engine.glm_tts import timing


def test_every_part_of_a_tiny_model_is_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timing, "_BATCHES", (1, 9))
    monkeypatch.setattr(timing, "_CONTEXTS", (60,))
    monkeypatch.setattr(timing, "_WINDOWS", (20, 30))
    monkeypatch.setattr(timing, "_MIX", (20, 30))
    monkeypatch.setattr(timing, "_CLIP_FRAMES", 40)
    assert timing.main(["--size", "tiny", "--device", "cpu", "--runs", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["device"] == "cpu"
    assert found["llm_step_ms"]["60"].keys() == {"1", "9"}
    assert found["prefill_ms"].keys() == {"1", "8"}
    assert found["flow_ms"].keys() == {"20", "30", "mix"}
    assert found["vocoder_ms_10s"] > 0


def test_first_lap_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 9.0, 10.0, 10.001, 20.0, 20.003, 30.0, 30.002])
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    watch = timing.Stopwatch(torch.device("cpu"))
    for _ in range(4):
        with watch.lap():
            pass
    assert watch.median_ms == 2


def test_model_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert timing.main(["--model", "/nowhere", "--device", "cpu"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
