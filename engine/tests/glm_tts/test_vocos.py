from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.errors import LoadFailed
from engine.glm_tts.vocos import Vocos

CPU = torch.device("cpu")
SHIFT = -7.847762537473608
HOP = 640
MELS = torch.randn(150, 80, generator=torch.Generator().manual_seed(1))


class Near(nn.Module):
    """Sees three frames to either side."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(80, HOP, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        audio: Tensor = self.conv(x.transpose(1, 2)).transpose(1, 2).flatten(1)
        return audio


class Centred(Near):
    """Gives no samples for half a frame at each end, and for one frame none at all."""

    def forward(self, x: Tensor) -> Tensor:
        audio: Tensor = self.conv(x.transpose(1, 2)).transpose(1, 2).flatten(1)
        return audio[:, 320 : audio.shape[1] - 320]


class Mean(nn.Module):
    """Sees all of its window: a constant."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(2).mean(1, keepdim=True).repeat(1, 640 * x.shape[1])


class OtherHop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(2).repeat_interleave(480, 1)


def _vocos(module: nn.Module, folder: Path) -> Vocos:
    path = folder / "generator_jit.ckpt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), path)
    return Vocos(path, CPU)


def _stream(vocos: Vocos, mels: Tensor, chunk: int) -> Tensor:
    state = vocos.begin(0)
    starts = range(0, max(len(mels), 1), chunk)
    parts = [
        vocos.vocode([mels[start : start + chunk]], [state], [start == starts[-1]])[0]
        for start in starts
    ]
    return torch.cat(parts)


@pytest.mark.parametrize("chunk", [1, 7, 50, 149])
@pytest.mark.parametrize("module", [Near, Centred])
def test_stream_equals_whole_clip(module: type[Near], chunk: int, tmp_path: Path) -> None:
    vocos = _vocos(module(), tmp_path)
    with torch.inference_mode():
        whole = module()(MELS[None] + SHIFT)[0]
    torch.testing.assert_close(_stream(vocos, MELS, chunk), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("chunk", [3, 50])
def test_windows_that_differ_are_faded(chunk: int, tmp_path: Path) -> None:
    audio = _stream(_vocos(Mean(), tmp_path), MELS, chunk)
    assert len(audio) == HOP * len(MELS)
    assert audio.max() - audio.min() > 1e-2
    steps = audio.diff().abs()
    assert steps.max() < (audio.max() - audio.min()) / 1000


def test_streams_in_one_call_sound_as_alone(tmp_path: Path) -> None:
    vocos = _vocos(Near(), tmp_path)
    clips = [MELS[:40], MELS[40:80], MELS[80:100]]
    states = [vocos.begin(0) for _ in clips]
    first = vocos.vocode([clip[:30] for clip in clips], states, [False] * 3)
    rest = vocos.vocode([clip[30:] for clip in clips], states, [True] * 3)
    for clip, *parts in zip(clips, first, rest, strict=True):
        alone = _stream(vocos, clip, 100)
        torch.testing.assert_close(torch.cat(parts), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("module", [Near, Centred])
def test_a_lone_frame_is_a_frame_of_audio(module: type[Near], tmp_path: Path) -> None:
    vocos = _vocos(module(), tmp_path)
    with torch.inference_mode():
        doubled = module()(MELS[None, :1].repeat(1, 2, 1) + SHIFT)[0]
    audio = _stream(vocos, MELS[:1], 1)
    torch.testing.assert_close(audio, doubled[:HOP], atol=1e-5, rtol=0)
    assert len(audio) == HOP


def test_an_empty_clip_is_silent(tmp_path: Path) -> None:
    assert len(_stream(_vocos(Near(), tmp_path), MELS[:0], 1)) == 0


def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="does not load"):
        Vocos(tmp_path / "missing.ckpt", CPU)
    (tmp_path / "text.ckpt").write_text("no model")
    with pytest.raises(LoadFailed, match="does not load"):
        Vocos(tmp_path / "text.ckpt", CPU)
    with pytest.raises(LoadFailed, match="640 samples"):
        _vocos(OtherHop(), tmp_path)
