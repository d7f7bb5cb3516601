"""The fused vocoder against the plain one.

On a machine without CUDA it runs in Triton's interpreter where TRITON_INTERPRET=1 asks for it.
"""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from engine.glm_tts import hift
from engine.glm_tts.dims import HiftDims
from engine.glm_tts.golden_weights import golden_weights, gw
from engine.glm_tts.hift import HiftNetwork
from engine.glm_tts.model_memory import GraphRoom
from engine.glm_tts.philox import Purpose, exponentials, normals
from engine.glm_tts.tensors import Weights, fold_weight_norm, hift_tensors
from engine.glm_tts.vocoder import Hift

pytest.importorskip("triton")
IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not (torch.cuda.is_available() or IS_INTERPRETED), reason="needs a CUDA device"
    ),
]

HOP = 480
DEVICE = "cpu" if IS_INTERPRETED else "cuda"
DIMS = HiftDims(base=128, f0_width=32)
FRAMES = 4 if IS_INTERPRETED else 130
CUTS = [1, 2] if IS_INTERPRETED else [50, 53, 110]


def _weights() -> Weights:
    weights = fold_weight_norm(golden_weights("small.hift.", hift_tensors(DIMS)))
    return {name: tensor.to(DEVICE) for name, tensor in weights.items()}


def _mels(name: str, clips: int, frames: int = FRAMES) -> Tensor:
    return torch.from_numpy(gw(name, (clips, frames, 80), 1.5, -4)).to(DEVICE)


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> Hift:
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    monkeypatch.setattr(hift, "_can_fuse", lambda *_: True)
    return Hift(DIMS, _weights())


def _stream(vocoder: Hift, mels: Tensor, cuts: list[int], seed: int = 3) -> Tensor:
    state = vocoder.begin(seed)
    ends = list(pairwise([0, *cuts, len(mels)]))
    parts = [
        vocoder.vocode([mels[start:end]], [state], [end == len(mels)])[0] for start, end in ends
    ]
    return torch.cat(parts)


def test_numbers_are_those_of_the_plain_path() -> None:
    from engine.glm_tts.philox_kernels import draw

    seeds = torch.tensor([5, -7, 1 << 40])
    rows = torch.arange(3, 9).expand(3, -1)
    for columns in (1, 7, 80, 480):
        for is_normal, plain in ((True, normals), (False, exponentials)):
            drawn = draw(
                seeds.to(DEVICE), Purpose.MEL, rows.to(DEVICE), columns, is_normal=is_normal
            )
            wanted = plain(seeds, Purpose.MEL, rows, columns)
            torch.testing.assert_close(drawn.cpu(), wanted, atol=2e-6, rtol=2e-6)


def test_audio_is_that_of_the_plain_network(fused: Hift) -> None:
    plain = HiftNetwork(_weights())
    mels = _mels("plain", 2)
    source = torch.from_numpy(gw("source", (2, HOP * FRAMES), 0.1)).to(DEVICE)
    wanted = plain(mels.mT, source)
    torch.testing.assert_close(fused._network(mels.mT, source), wanted, atol=1e-4, rtol=0)


def test_source_is_that_of_the_plain_path(fused: Hift) -> None:
    plain, mels = fused._source, _mels("source", 2)
    f0 = fused._pitch(mels.mT)
    cycles = plain.cycles(f0)
    hiss = torch.from_numpy(gw("hiss", (2, HOP * FRAMES))).to(DEVICE)
    wanted = plain.add(f0, plain.sines(f0, cycles[..., 1:]), hiss)
    frames = torch.full((2,), FRAMES, device=DEVICE)
    assert not isinstance(fused._network, HiftNetwork)
    mixed = fused._network.mix(f0, cycles, hiss, frames)
    torch.testing.assert_close(mixed, wanted, atol=2e-6, rtol=0)


def test_window_that_is_filled_up_gives_the_same_bits(fused: Hift) -> None:
    mels, source = _mels("ragged", 2), torch.randn(2, HOP * FRAMES, device=DEVICE)
    short = FRAMES - 2
    mels[1, short:] = 0
    frames = torch.tensor([FRAMES, short], device=DEVICE)
    assert not isinstance(fused._network, HiftNetwork)
    both = fused._network(mels.mT, source, frames)
    alone = fused._network(mels[1:, :short].mT, source[1:, : HOP * short])
    assert torch.equal(both[1, : HOP * short], alone[0])


def test_stream_equals_whole_clip(fused: Hift) -> None:
    mels = _mels("stream", 1)[0]
    whole = _stream(fused, mels, [])
    torch.testing.assert_close(_stream(fused, mels, CUTS), whole, atol=5e-6, rtol=0)


@pytest.mark.skipif(IS_INTERPRETED, reason="CUDA graphs need CUDA")
def test_captured_windows_sound_as_those_that_are_not(fused: Hift) -> None:
    clips = list(_mels("graphs", 3))
    alone = [_stream(fused, mels, CUTS, seed) for seed, mels in enumerate(clips)]
    fused = fused.recorded([60, 100], [1, 4], GraphRoom())
    states = [fused.begin(seed) for seed in range(3)]
    heard: list[list[Tensor]] = [[] for _ in clips]
    for start, end in pairwise([0, *CUTS, FRAMES]):
        chunks = [mels[start:end] for mels in clips]
        for parts, part in zip(
            heard, fused.vocode(chunks, states, [end == FRAMES] * 3), strict=True
        ):
            parts.append(part)
    for parts, wanted in zip(heard, alone, strict=True):
        torch.testing.assert_close(torch.cat(parts), wanted, atol=1e-6, rtol=0)
