from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from engine.errors import LoadFailed
from engine.glm_tts.speaker_encoder import CamPlus, MadeUpSpeakerEncoder
from engine.tests.glm_tts.goldens import golden

FLOAT, INTS = 1, 7
"""ONNX's numbers of types."""


def field(number: int, value: int | str | bytes) -> bytes:
    """A field of a protobuf message: the onnx package would be a test's only use of it."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    payload = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def tensor_type(name: str, *shape: int | str) -> bytes:
    dims = (field(1, field(1 if isinstance(size, int) else 2, size)) for size in shape)
    tensor = field(1, FLOAT) + field(2, b"".join(dims))
    return field(1, name) + field(2, field(1, tensor))


def onnx_file(folder: Path, weight: npt.NDArray[np.float32]) -> Path:
    """[1, T, bins] -> its maximum over time -> times the weight [bins, width]."""
    axes = field(1, "axes") + field(8, 1) + field(20, INTS)
    keep = field(1, "keepdims") + field(3, 0) + field(20, 2)
    highest = field(1, "input") + field(2, "highest") + field(4, "ReduceMax")
    product = field(1, "highest") + field(1, "weight") + field(2, "output") + field(4, "MatMul")
    sizes = b"".join(field(1, size) for size in weight.shape)
    tensor = sizes + field(2, FLOAT) + field(8, "weight") + field(9, weight.tobytes())
    graph = (
        field(1, highest + field(5, axes) + field(5, keep))
        + field(1, product)
        + field(2, "speaker")
        + field(5, tensor)
        + field(11, tensor_type("input", 1, "frames", len(weight)))
        + field(12, tensor_type("output", 1, weight.shape[1]))
    )
    path = folder / "campplus.onnx"
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(2, 13)))
    return path


def weight(bins: int = 80, width: int = 192) -> npt.NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal((bins, width), dtype=np.float32)


def test_campplus_hears_the_centred_fbank(tmp_path: Path) -> None:
    clips = golden("kaldi_fbank")
    embedding = CamPlus(onnx_file(tmp_path, weight())).embed(clips["a.wav16"][0])
    wanted = clips["a.fbank_centered"].amax(0) @ torch.from_numpy(weight())
    assert embedding.dtype == torch.float32
    torch.testing.assert_close(embedding, wanted, atol=1e-3, rtol=1e-4)


def test_missing_file_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"campplus\.onnx does not load"):
        CamPlus(tmp_path / "campplus.onnx")


@pytest.mark.parametrize("kept", [0, 20, 30_000])
def test_truncated_file_does_not_load(tmp_path: Path, kept: int) -> None:
    path = onnx_file(tmp_path, weight())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(LoadFailed, match="does not load"):
        CamPlus(path)


def test_other_embedding_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"gives \(1, 512\) and not \(1, 192\)"):
        CamPlus(onnx_file(tmp_path, weight(width=512)))


def test_other_features_do_not_load(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="does not load"):
        CamPlus(onnx_file(tmp_path, weight(bins=64)))


def test_made_up_encoder_tells_recordings_apart() -> None:
    clips = golden("kaldi_fbank")
    encoder = MadeUpSpeakerEncoder(seed=5)
    first, second = (encoder.embed(clips[f"{clip}.wav16"][0]) for clip in "ab")
    assert first.shape == (192,)
    assert torch.cosine_similarity(first, second, dim=0) < 0.99
    assert torch.equal(first, MadeUpSpeakerEncoder(seed=5).embed(clips["a.wav16"][0]))
    assert not torch.equal(first, MadeUpSpeakerEncoder(seed=6).embed(clips["a.wav16"][0]))
