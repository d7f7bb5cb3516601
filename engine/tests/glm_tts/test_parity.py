"""The parity command, over the goldens that are kept here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.glm_tts.dims import TINY
from engine.glm_tts.golden_weights import golden_weights
from engine.glm_tts.parity import CHECKS, compare, main
from engine.glm_tts.parity_goldens import Comparison
from engine.glm_tts.tensors import hift_tensors
from engine.tests.glm_tts.goldens import GOLDENS

CPU = torch.device("cpu")

PERTURBED = {
    "audio_mel_resample": ("mel24", "basis32", "resample.44100_16000.out"),
    "block_masks": ("bl_3.row_limit", "feat_len_table", "token_to_mel_frames"),
    "dit_tiny": ("a.out_full", "a.out_causal.p2_1_2", "a.t57.out"),
    "flow_tiny": ("round.mel", "stream.c2.x_before_step"),
    "hift_tiny": ("t12.source", "t7.f0", "t400.wav"),
    "kaldi_fbank": ("a.fbank",),
    "llm_tiny": ("ras1.last_logits", "prefill.logits"),
    "ras": ("token", "nucleus_prob", "full.token"),
    "stream_policy": ("n60.total",),
    "whisper_features": ("features", "mask_b_alone"),
    "whispervq_tiny": ("f84.ids", "b2.pre_vq"),
}


def copied(tmp_path: Path, *names: str) -> Path:
    for name in names:
        shutil.copy(GOLDENS / name, tmp_path)
    return tmp_path


def missed(folder: Path) -> list[str]:
    return [each.name for each in compare(folder, CPU) if not each.is_near]


def test_everything_is_near_the_original(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(GOLDENS)]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == f"{len(lines)} compared, 0 missed"
    compared = {line.split()[1].removesuffix(":") for line in lines}
    assert compared == {name for name in CHECKS if not name.endswith("_true")}
    assert len(lines) > 70


@pytest.mark.parametrize("name", PERTURBED)
def test_a_golden_that_is_off_is_missed(name: str, tmp_path: Path) -> None:
    copied(tmp_path, f"{name}.safetensors")
    if name == "llm_tiny":
        copied(tmp_path, "llm_tiny_weights.safetensors", "llm_tiny_config.json")
    tensors = load_file(GOLDENS / f"{name}.safetensors")
    for tensor in PERTURBED[name]:
        tensors[tensor].flatten()[0] += 1
    save_file(tensors, tmp_path / f"{name}.safetensors")
    assert set(missed(tmp_path)) == {f"{name}: {tensor}" for tensor in PERTURBED[name]}


def test_texts_that_are_off_are_missed(tmp_path: Path) -> None:
    texts = json.loads((GOLDENS / "text_frontend.json").read_text())
    texts["normalize"][3][1] += "!"
    texts["units"][0][2] += 1
    (tmp_path / "text_frontend.json").write_text(json.dumps(texts))
    assert missed(tmp_path) == ["text_frontend: normalize", "text_frontend: units' lengths"]


def test_weights_of_a_file_go_before_the_formula(tmp_path: Path) -> None:
    copied(tmp_path, "hift_tiny.safetensors")
    weights = golden_weights("tiny.hift.", hift_tensors(TINY.hift))
    save_file(weights, tmp_path / "hift_tiny_weights.safetensors")
    assert missed(tmp_path) == []
    weights["conv_post.bias"] += 0.5
    save_file(weights, tmp_path / "hift_tiny_weights.safetensors")
    assert missed(tmp_path) == [f"hift_tiny: {tag}.wav" for tag in ("t12", "t400", "t7")]


def test_a_folder_without_goldens_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing")
    assert main([str(tmp_path)]) == 1


def test_an_error_that_is_not_a_number_is_a_miss() -> None:
    assert not Comparison("x", float("nan"), 1.0).is_near


def test_json_has_an_object_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(copied(tmp_path, "block_masks.safetensors")), "--json"]) == 0
    first, *_ = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {
        "name": "block_masks: bl_1.row_limit",
        "error": 0.0,
        "bound": 0.0,
        "remark": "",
    }
