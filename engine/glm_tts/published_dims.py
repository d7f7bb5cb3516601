"""The sizes of all parts of a checkpoint, each told by its own files; they must agree."""

from __future__ import annotations

import re
from pathlib import Path

from engine.errors import LoadFailed
from engine.glm_tts import models
from engine.glm_tts.config_files import llm_dims, speech_tokenizer_dims, token_ids
from engine.glm_tts.dims import Dims, FlowDims, HiftDims, Rates
from engine.glm_tts.loading import Stored

_HIFT_HOP = 480
"""Samples that the vocoder makes of a mel frame."""

_FLOW_SETTINGS = {
    "spkr_emb_adaLN": "true",
    "speech_token_cfg": "false",
    "remove_spkr_concat_condition": "true",
    "big_model": "false",
    "use_wavlm_emb": "false",
    "t_scheduler": "cosine",
}
"""What the flow was written for."""


def published_dims(folder: Path, flow: Stored, hift: Stored, sample_rate: int) -> Dims:
    """Of all parts.

    Args:
        folder: Of the model.
        flow: The tensors in its `flow.pt`.
        hift: The tensors in its `hift.pt`.
        sample_rate: Hz, of the vocoder that is wanted.
    Raises:
        LoadFailed: a file says something that cannot be, or two contradict each other.
    """
    llm = llm_dims(folder / models.LLM_FOLDER / "config.json")
    tokenizer = speech_tokenizer_dims(folder / models.SPEECH_TOKENIZER_FOLDER / "config.json")
    flow_sizes = _flow_dims(flow, folder / models.FLOW)
    dims = Dims(
        rates=_rates(folder / models.FLOW_CONFIG, flow_sizes.mels, sample_rate),
        ids=token_ids(
            folder / models.TOKENIZER_FOLDER / "tokenizer_config.json", llm.vocab, tokenizer.codes
        ),
        llm=llm,
        flow=flow_sizes,
        hift=_hift_dims(hift, folder / models.HIFT),
        speech_tokenizer=tokenizer,
    )
    _check_agreement(dims)
    return dims


def _flow_dims(stored: Stored, path: Path) -> FlowDims:
    """By its tensors: its configuration tells few of its sizes."""

    def shape(name: str, axes: int) -> tuple[int, ...]:
        return _shape(stored, f"estimator.{name}", axes, path)

    def count(part: str, ending: str) -> int:
        start = f"estimator.{part}."
        return sum(name.startswith(start) and name.endswith(ending) for name in stored)

    width, time_width = shape("time_embed.time_mlp.0.weight", 2)
    token_table, token_width = shape("text_emb_layer.text_embed.weight", 2)
    head_dim = 2 * shape("rotary_embed.inv_freq", 1)[0]
    return FlowDims(
        width=width,
        depth=count("transformer_blocks", ".attn_norm.linear.weight"),
        heads=width // head_dim,
        head_dim=head_dim,
        ff_mult=shape("transformer_blocks.0.ff.ff.0.0.bias", 1)[0] // width,
        token_width=token_width,
        token_table=token_table,
        conv_layers=count("text_emb_layer.text_blocks", ".dwconv.weight"),
        mels=shape("proj_out.bias", 1)[0],
        speaker=shape("norm_out.linear.weight", 2)[1] - width,
        time_width=time_width,
    )


def _hift_dims(stored: Stored, path: Path) -> HiftDims:
    base, mels, _ = _shape(stored, "conv_pre.parametrizations.weight.original1", 3, path)
    _, f0_width = _shape(stored, "f0_predictor.classifier.weight", 2, path)
    return HiftDims(mels=mels, base=base, f0_width=f0_width)


def _rates(path: Path, mels: int, sample_rate: int) -> Rates:
    """By the flow's configuration, if that is for the flow we know and for so many mel bins."""
    text = path.read_text(encoding="utf-8")
    for name, wanted in _FLOW_SETTINGS.items():
        for value in _values(text, name):
            if value.lower() != wanted:
                raise LoadFailed(f"{path}: {name} is {value}; only {wanted} is known here")
    rates = Rates(
        token_hz=_number(path, text, "input_frame_rate"),
        mel_hz=_number(path, text, "mel_framerate"),
        sample_rate=sample_rate,
    )
    if (told := _number(path, text, "mel_dim")) != mels:
        raise LoadFailed(f"{path}: mel_dim is {told}, and the flow's tensors are for {mels} bins")
    return rates


def _check_agreement(dims: Dims) -> None:
    """What one part gives is what the next one takes."""
    flow, hift, rates, codes = dims.flow, dims.hift, dims.rates, dims.speech_tokenizer.codes
    if hift.mels != flow.mels:
        raise LoadFailed(f"hift.pt takes {hift.mels} mel bins, and flow.pt gives {flow.mels}")
    if rates.sample_rate == 24_000 and rates.hop != _HIFT_HOP:
        raise LoadFailed(
            f"flow/config.yaml counts {rates.mel_hz} mel frames a second, {rates.hop} samples "
            f"each, and hift.pt makes {_HIFT_HOP} samples of one"
        )
    if codes > flow.token_table:
        raise LoadFailed(
            f"speech_tokenizer/config.json has {codes} codes, and flow.pt a table of "
            f"{flow.token_table}"
        )


def _shape(stored: Stored, name: str, axes: int, path: Path) -> tuple[int, ...]:
    if name not in stored:
        raise LoadFailed(f"{path} has no {name}")
    if len(shape := stored[name].shape) != axes:
        raise LoadFailed(f"{path}: {name} is {list(shape)}; it should have {axes} axes")
    return shape


def _values(text: str, name: str) -> list[str]:
    """Of a key in YAML, wherever it stands in it: all that is needed are plain scalars."""
    return re.findall(rf"^\s*{name}:\s*['\"]?([^\s'\"#]+)", text, re.MULTILINE)


def _number(path: Path, text: str, name: str) -> int:
    values = set(_values(text, name))
    if len(values) != 1 or not (value := values.pop()).isdecimal():
        raise LoadFailed(f"{path} should have one number for {name}")
    return int(value)
