"""A checkpoint: what its parts are, and how to get their tensors onto a device.

Opening one reads no tensor: it compares what the files say with each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import torch
from msgspec import Struct

from engine.config import GlmTtsOptions
from engine.glm_tts import models
from engine.glm_tts.dims import TINY, TRUE, Dims, SpeechTokenizerDims
from engine.glm_tts.loading import Rename, Stored, check, open_pickled, open_safetensors, read
from engine.glm_tts.published_dims import published_dims
from engine.glm_tts.random_weights import random_weights
from engine.glm_tts.tensors import (
    Shapes,
    Weights,
    flow_tensors,
    fold_weight_norm,
    hift_tensors,
    llm_tensors,
    newer_name,
    speech_tokenizer_tensors,
)

_SAMPLES = 16
_SAMPLE_BYTES = 4096


class Load(Protocol):
    """Gets a part's tensors onto a device; each call reads or makes them anew."""

    def __call__(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Weights:
        """The part's tensors.

        Raises:
            LoadFailed: a file cannot be read.
        """
        ...


class Checkpoint(Struct, frozen=True, kw_only=True):
    """Of files or made up."""

    dims: Dims
    revision: str
    """Features of a prompt by one revision mean nothing to another."""
    load_llm: Load
    load_flow: Load
    load_hift: Load
    load_speech_tokenizer: Load
    tokenizer_folder: Path | None = None
    """None: the text tokenizer is made up too."""
    campplus: Path | None = None
    """ONNX file of the speaker encoder. None: it is made up too."""
    vocos: Path | None = None
    """TorchScript file of the vocoder at 32 kHz, if there is one."""


def open_checkpoint(options: GlmTtsOptions) -> Checkpoint:
    """Find the published files and see that they fit each other.

    Raises:
        LoadFailed: what is missing, or which two of them contradict each other and how.
    """
    found = models.find_model(options)
    folder = found.folder
    flow_path, hift_path = folder / models.FLOW, folder / models.HIFT
    tokenizer_path = folder / models.SPEECH_TOKENIZER_FOLDER
    flow = open_pickled(flow_path, lambda name: name)
    hift = open_pickled(hift_path, newer_name)
    llm = open_safetensors(folder / models.LLM_FOLDER, _llm_name)
    dims = published_dims(folder, flow, hift, options.sample_rate)
    tokenizer = open_safetensors(tokenizer_path, _encoder_name(dims.speech_tokenizer))
    vocos = folder / models.VOCOS
    return Checkpoint(
        dims=dims,
        revision=_revision(folder, options.sample_rate, found.campplus),
        load_llm=_stored(llm, llm_tensors(dims.llm), folder / models.LLM_FOLDER, "llm/config.json"),
        load_flow=_stored(flow, flow_tensors(dims.flow), flow_path, "the rest of the file"),
        load_hift=_folded(
            _stored(hift, hift_tensors(dims.hift), hift_path, "the rest of the file")
        ),
        load_speech_tokenizer=_stored(
            tokenizer,
            speech_tokenizer_tensors(dims.speech_tokenizer),
            tokenizer_path,
            "speech_tokenizer/config.json",
        ),
        tokenizer_folder=folder / models.TOKENIZER_FOLDER,
        campplus=found.campplus,
        vocos=vocos if vocos.is_file() else None,
    )


def random_checkpoint(size: Literal["true", "tiny"], seed: int) -> Checkpoint:
    """One that is made up: needs no files.

    Args:
        size: The published one's, or small enough for a test.
        seed: Any.
    """
    dims = {"true": TRUE, "tiny": TINY}[size]
    return Checkpoint(
        dims=dims,
        revision=f"random-{size}-{seed}",
        load_llm=_random("llm", llm_tensors(dims.llm), seed),
        load_flow=_random("flow", flow_tensors(dims.flow), seed),
        load_hift=_folded(_random("hift", hift_tensors(dims.hift), seed)),
        load_speech_tokenizer=_random(
            "speech_tokenizer", speech_tokenizer_tensors(dims.speech_tokenizer), seed
        ),
    )


def _stored(stored: Stored, expected: Shapes, path: Path, source: str) -> Load:
    check(stored, expected, path, source)

    def load(device: torch.device, dtype: torch.dtype = torch.float32) -> Weights:
        return read(stored, device, dtype)

    return load


def _random(part: str, shapes: Shapes, seed: int) -> Load:
    def load(device: torch.device, dtype: torch.dtype = torch.float32) -> Weights:
        return random_weights(part, shapes, seed, device, dtype)

    return load


def _folded(load: Load) -> Load:
    def load_folded(device: torch.device, dtype: torch.dtype = torch.float32) -> Weights:
        # In float32 and then rounded: a norm of rounded numbers is off.
        weights = fold_weight_norm(load(device, torch.float32))
        return {name: tensor.to(dtype) for name, tensor in weights.items()}

    return load_folded


def _llm_name(name: str) -> str | None:
    """The head is the embedding's, whether a file repeats it or not."""
    return None if name == "lm_head.weight" else name


def _encoder_name(dims: SpeechTokenizerDims) -> Rename:
    """Leaves out what is for training, and what comes after the codes."""
    unused = ("layer_norm.", "embed_positions2.", "ema_")

    def rename(name: str) -> str | None:
        ours = name.removeprefix("model.encoder.")
        if ours == name or ours.startswith(unused):
            return None
        first, _, rest = ours.partition(".")
        is_beyond = first == "layers" and int(rest.partition(".")[0]) >= dims.layers
        return None if is_beyond else ours

    return rename


def _revision(folder: Path, sample_rate: int, campplus: Path) -> str:
    """Of the names, the sizes and samples of the content: all of it would take half a minute."""
    digest = hashlib.sha256(str(sample_rate).encode())
    for path in [*_files(folder), campplus]:
        size = path.stat().st_size
        digest.update(f"\0{path.name}\0{size}\0".encode())
        with path.open("rb") as content:
            for index in range(_SAMPLES):
                content.seek(max(0, size - _SAMPLE_BYTES) * index // (_SAMPLES - 1))
                digest.update(content.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def _files(folder: Path) -> Sequence[Path]:
    """All that a voice's features and the speech depend on, in a lasting order."""
    folders = (models.LLM_FOLDER, models.SPEECH_TOKENIZER_FOLDER)
    weights = [path for name in folders for path in sorted((folder / name).glob("*.safetensors"))]
    return [*weights, folder / models.FLOW, folder / models.HIFT]
