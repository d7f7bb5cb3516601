from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.glm_tts.dims import TINY
from engine.glm_tts.golden_weights import golden_weights, gw
from engine.glm_tts.hift import HiftNetwork
from engine.glm_tts.philox import Purpose, normals
from engine.glm_tts.tensors import Weights, fold_weight_norm, hift_tensors
from engine.glm_tts.vocoder import Hift
from engine.tests.glm_tts.goldens import golden

HOP = 480
ROUNDING = 2e-5


def _weights() -> Weights:
    return fold_weight_norm(golden_weights("tiny.hift.", hift_tensors(TINY.hift)))


HIFT = Hift(TINY.hift, _weights())
LONG = torch.from_numpy(gw("t400.mel", (1, 80, 400), 1.5, -4))[0].mT.contiguous()
CLIP = LONG[100:190]


@pytest.fixture(scope="module")
def original() -> dict[str, Tensor]:
    return golden("hift_tiny")


def _mel(original: dict[str, Tensor], tag: str) -> Tensor:
    """[1, T, 80]."""
    return LONG[None] if tag == "t400" else original[f"{tag}.mel"].mT


def _noise(tag: str, frames: int) -> Tensor:
    return torch.from_numpy(gw(f"{tag}.noise", (1, HOP * frames, 9)))


def _stream(mels: Tensor, cuts: list[int], seed: int = 3) -> list[Tensor]:
    """The parts that a clip's chunks give; it is cut at the frames of `cuts`."""
    state = HIFT.begin(seed)
    edges = [0, *sorted(cuts), len(mels)]
    ends = list(pairwise(edges))
    return [
        HIFT.vocode([mels[start:end]], [state], [index == len(ends) - 1])[0]
        for index, (start, end) in enumerate(ends)
    ]


@pytest.mark.parametrize("tag", ["t12", "t7", "t400"])
def test_pitch_as_the_original(original: dict[str, Tensor], tag: str) -> None:
    f0 = HIFT._pitch(_mel(original, tag).mT)
    torch.testing.assert_close(f0, original[f"{tag}.f0"], atol=1e-3, rtol=0)


@pytest.mark.parametrize("tag", ["t12", "t7"])
def test_source_as_the_original(original: dict[str, Tensor], tag: str) -> None:
    f0 = original[f"{tag}.f0"]
    noise = _noise(tag, f0.shape[1])
    sines = HIFT._source.sines(f0, HIFT._source.cycles(f0)[..., 1:])
    if tag == "t12":
        torch.testing.assert_close(noise, original["t12.noise"], atol=0, rtol=0)
        loudness = torch.where(f0 > 10, 0.003, 0.1 / 3).repeat_interleave(HOP, 1)[..., None]
        noisy = sines + loudness * noise
        torch.testing.assert_close(noisy, original["t12.sines9"], atol=2e-4, rtol=0)
    source = HIFT._source.mix(f0, sines, noise)
    torch.testing.assert_close(source, original[f"{tag}.source"][0], atol=2e-4, rtol=0)


def test_layers_as_the_original(original: dict[str, Tensor]) -> None:
    network = HIFT._network
    assert isinstance(network, HiftNetwork)
    spectrum = network._spectrum.analyse(original["t12.source"][0])
    first = network._first(original["t12.mel"])
    torch.testing.assert_close(first, original["t12.inter.conv_pre"], atol=1e-5, rtol=0)
    stage = network._stages[0]
    down = torch.conv1d(spectrum, *stage.source_down, stride=15, padding=7)
    torch.testing.assert_close(down, original["t12.inter.source_down0"], atol=1e-5, rtol=0)
    source = stage.source(down)
    torch.testing.assert_close(source, original["t12.inter.source_res0"], atol=1e-5, rtol=0)
    x = stage.upsample(torch.nn.functional.leaky_relu(first, 0.1), 8) + source
    branch = stage.branches[0](x)
    torch.testing.assert_close(branch, original["t12.inter.res0"], atol=5e-5, rtol=0)


# Over 8 s the original adds up its phase in float32, which strays from ours.
@pytest.mark.parametrize(("tag", "bound"), [("t12", 2e-4), ("t7", 2e-4), ("t400", 5e-3)])
def test_audio_as_the_original(original: dict[str, Tensor], tag: str, bound: float) -> None:
    mels = _mel(original, tag)
    audio = HIFT.whole(mels, _noise(tag, mels.shape[1]))
    torch.testing.assert_close(audio, original[f"{tag}.wav"], atol=bound, rtol=0)


def test_clips_of_a_batch_sound_as_alone() -> None:
    mels, noise = torch.stack((CLIP[:30], CLIP[30:60])), torch.zeros(2, 30 * HOP, 9)
    torch.testing.assert_close(
        HIFT.whole(mels, noise)[1:], HIFT.whole(mels[1:], noise[1:]), atol=ROUNDING, rtol=0
    )


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    frames=st.integers(1, len(CLIP)),
    cuts=st.lists(st.floats(0, 1), max_size=6),
)
def test_stream_equals_whole_clip(frames: int, cuts: list[float]) -> None:
    mels = CLIP[:frames]
    parts = _stream(mels, [int(cut * frames) for cut in cuts])
    (whole,) = _stream(mels, [])
    assert len(whole) == HOP * frames
    torch.testing.assert_close(torch.cat(parts), whole, atol=ROUNDING, rtol=0)


def test_stream_of_single_frames_equals_whole_clip() -> None:
    mels = CLIP[:60]
    parts = _stream(mels, list(range(1, 60)))
    torch.testing.assert_close(torch.cat(parts), _stream(mels, [])[0], atol=ROUNDING, rtol=0)


def test_phase_of_a_long_stream_does_not_drift() -> None:
    parts = torch.cat(_stream(LONG, list(range(7, 400, 29))))
    (whole,) = _stream(LONG, [])
    torch.testing.assert_close(parts[-HOP:], whole[-HOP:], atol=ROUNDING, rtol=0)


def test_pitch_is_the_same_in_any_window() -> None:
    whole = HIFT._pitch(CLIP.mT[None])
    window = HIFT._pitch(CLIP[31:78].mT[None].expand(3, -1, -1))
    assert torch.equal(window[1, 5:-5], whole[0, 36:73])


def test_whole_clip_in_one_chunk_is_the_plain_path() -> None:
    noise = normals(torch.tensor([5]), Purpose.SOURCE, torch.arange(90)[None], HOP).flatten(1)
    # The same sum from nine channels: all of it in the loudest one.
    weight = HIFT._source.weight[0]
    channel = weight.abs().argmax()
    nine = torch.zeros(1, HOP * 90, 9)
    nine[..., channel] = noise * weight.norm() / weight[channel]
    (streamed,) = _stream(CLIP, [], seed=5)
    torch.testing.assert_close(streamed, HIFT.whole(CLIP[None], nine)[0], atol=ROUNDING, rtol=0)


def test_one_noise_is_as_loud_as_nine() -> None:
    source, f0 = HIFT._source, torch.zeros(1, 40)
    silence = torch.zeros(1, 40 * HOP, 9)
    nine = source.mix(f0, silence, torch.from_numpy(gw("nine", (1, 40 * HOP, 9))))
    one = source.add(f0, silence, source.hiss(torch.from_numpy(gw("one", (1, 40 * HOP)))))
    torch.testing.assert_close(one.std(), nine.std(), rtol=0.02, atol=0)


def test_pitch_of_a_window_that_is_filled_up() -> None:
    filled = torch.stack((CLIP[:40], torch.cat((CLIP[:25], torch.zeros(15, 80)))))
    both = HIFT._pitch(filled.mT, torch.tensor([40, 25]))
    assert torch.equal(both[0], HIFT._pitch(CLIP[None, :40].mT)[0])
    assert torch.equal(both[1, :25], HIFT._pitch(CLIP[None, :25].mT)[0])


def test_a_frame_is_heard_by_no_more_than_are_held_back() -> None:
    mels = CLIP.clone()
    mels[45] = math.nan
    # Whatever depends on a frame that is not a number is none either.
    unknown = HIFT.whole(mels[None], torch.zeros(1, len(CLIP) * HOP, 9)).isnan()[0]
    assert unknown.nonzero()[0] // HOP == 45 - HIFT.hold_frames


def test_a_frame_is_heard_by_no_more_than_it_is_context_of() -> None:
    frames = torch.zeros(1, len(CLIP))
    source = torch.zeros(1, len(CLIP) * HOP)
    mels = CLIP[None].mT.clone()
    mels[..., 45] = math.nan
    assert HIFT._pitch(mels).isnan()[0].nonzero()[-1] == 45 + 5
    assert HIFT._network(mels, source).isnan()[0].nonzero()[-1] // HOP <= 45 + 15
    cycles = frames.double().expand(9, -1)[None].clone()
    cycles[..., 45] = math.nan
    source = HIFT._source.mix(
        frames, HIFT._source.sines(frames, cycles), torch.zeros(1, 90 * HOP, 9)
    )
    heard = HIFT._network(CLIP[None].mT, source).isnan()[0].nonzero()[-1] // HOP
    assert heard + 5 == 45 + HIFT.context_frames


def test_streams_in_one_call_sound_as_alone() -> None:
    clips = [CLIP, LONG[200:290], LONG[300:325], LONG[:0], LONG[7:97]]
    cuts = [[30, 60], [30, 60], [10, 20], [0, 0], [0, 55]]
    states = [HIFT.begin(seed) for seed in range(len(clips))]
    heard: list[list[Tensor]] = [[] for _ in clips]
    for turn in range(3):
        edges = [
            ([0, *cut, len(clip)][turn : turn + 2]) for clip, cut in zip(clips, cuts, strict=True)
        ]
        chunks = [clip[start:end] for clip, (start, end) in zip(clips, edges, strict=True)]
        for parts, part in zip(heard, HIFT.vocode(chunks, states, [turn == 2] * 5), strict=True):
            parts.append(part)
    for seed, (clip, parts) in enumerate(zip(clips, heard, strict=True)):
        alone = torch.cat(_stream(clip, [], seed))
        torch.testing.assert_close(torch.cat(parts), alone, atol=ROUNDING, rtol=0)


def test_what_can_be_given_is_given() -> None:
    assert [len(part) // HOP for part in _stream(CLIP, [20, 21, 21, 60])] == [0, 1, 0, 39, 50]


def test_context_is_bounded() -> None:
    state = HIFT.begin(0)
    for start in range(0, 400, 50):
        HIFT.vocode([LONG[start : start + 50]], [state], [False])
    assert len(state.mels) == HIFT.context_frames + HIFT.hold_frames
    assert state.given == 400 - HIFT.hold_frames


def test_a_seed_repeats_its_noise() -> None:
    first, again, other = (_stream(CLIP[:9], [], seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-3)


def test_audio_is_kept_below_full_scale() -> None:
    weights = _weights()
    weights["conv_post.bias"][:9] += 4
    audio = Hift(TINY.hift, weights).whole(CLIP[None], torch.zeros(1, len(CLIP) * HOP, 9))
    assert audio.abs().max() == torch.tensor(0.99)


def test_half_precision_network_keeps_the_pitch() -> None:
    weights = {name: tensor.bfloat16().float() for name, tensor in _weights().items()}
    halved = {name: tensor.bfloat16() for name, tensor in weights.items()}
    noise = torch.zeros(1, len(CLIP) * HOP, 9)
    audio = Hift(TINY.hift, halved).whole(CLIP[None], noise)
    wanted = Hift(TINY.hift, weights).whole(CLIP[None], noise)
    assert audio.dtype == torch.float32
    assert torch.corrcoef(torch.cat((audio, wanted)))[0, 1] > 0.99
