"""Names and shapes of a checkpoint's tensors, and the formula for made-up ones."""

from __future__ import annotations

import math

import pytest
import torch

from engine.glm_tts.dims import TINY, TRUE, SpeechTokenizerDims
from engine.glm_tts.golden_weights import golden_weights, gw
from engine.glm_tts.tensors import (
    Shapes,
    flow_tensors,
    fold_weight_norm,
    hift_tensors,
    llm_tensors,
    newer_name,
    speech_tokenizer_tensors,
)
from engine.tests.glm_tts.goldens import golden

WHISPERVQ = SpeechTokenizerDims(
    width=64, heads=4, ff=128, layers=4, mels=16, positions=100, codes=48, block=8
)


def parameters(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def test_the_published_checkpoint_has_so_many_tensors_and_parameters() -> None:
    llm, flow, hift = llm_tensors(TRUE.llm), flow_tensors(TRUE.flow), hift_tensors(TRUE.hift)
    assert 4 * parameters(llm) == 6_208_036_864  # bytes, as the index of its files says
    assert (len(flow), parameters(flow)) == (308, 225_299_824)
    assert (len(hift), parameters(hift)) == (328, 20_821_295)
    assert parameters(speech_tokenizer_tensors(TRUE.speech_tokenizer)) == 364_090_880


def test_the_language_model_has_the_names_of_its_file() -> None:
    stored = {name: tuple(each.shape) for name, each in golden("llm_tiny_weights").items()}
    assert llm_tensors(TINY.llm) == stored


@pytest.mark.parametrize(
    ("prefix", "shapes", "known"),
    [
        (
            "tiny.flow.",
            flow_tensors(TINY.flow),
            {
                "estimator.rotary_embed.inv_freq": (3.997908228135202, 0.0001333521504420787),
                "estimator.text_emb_layer.text_embed.weight": (
                    4.73377150460874,
                    0.6920220851898193,
                ),
                "estimator.text_emb_layer.text_blocks.0.norm.weight": (
                    31.931557714939117,
                    1.0444154739379883,
                ),
                "estimator.text_emb_layer.text_blocks.3.grn.gamma": (
                    -1.9163414896465838,
                    0.0012674033641815186,
                ),
                "estimator.proj_out.bias": (1.0910825598984957, 0.005319186951965094),
                "estimator.transformer_blocks.1.attn_norm.linear.weight": (
                    8.831540877221272,
                    -0.04869493097066879,
                ),
            },
        ),
        (
            "tiny.hift.",
            hift_tensors(TINY.hift),
            {
                "f0_predictor.classifier.weight": (247.44843339920044, 48.52263259887695),
                "f0_predictor.classifier.bias": (0.0, 0.0),
                "conv_post.parametrizations.weight.original0": (
                    2.6857803016901016,
                    0.13450182974338531,
                ),
                "ups.1.parametrizations.weight.original1": (
                    3.6553095468589163,
                    0.014787482097744942,
                ),
                "resblocks.8.activations2.2.alpha": (4.378457188606262, 1.0947351455688477),
            },
        ),
        (
            "tiny.wvq.",
            speech_tokenizer_tensors(WHISPERVQ),
            {
                "codebook.weight": (-14.57385705775232, 0.8738080859184265),
                "embed_positions.weight": (15.424139999930048, -0.2988947331905365),
                "layers.3.final_layer_norm.weight": (65.30564254522324, 1.079355001449585),
                "layers.0.fc1.weight": (-10.93039701513004, -0.09270917624235153),
            },
        ),
    ],
)
def test_formula_gives_the_stored_weights(
    prefix: str, shapes: Shapes, known: dict[str, tuple[float, float]]
) -> None:
    """Sum and last value of tensors as the original implementation had them."""
    weights = golden_weights(prefix, shapes)
    assert weights.keys() == shapes.keys()
    assert {name: tuple(each.shape) for name, each in weights.items()} == shapes
    for name, (total, last) in known.items():
        assert weights[name].double().sum().item() == pytest.approx(total, abs=1e-9), name
        assert weights[name].flatten()[-1].item() == last, name


def test_formula_gives_the_stored_inputs() -> None:
    noise = golden("hift_tiny")["t12.noise"]
    assert torch.equal(torch.from_numpy(gw("t12.noise", (1, 5760, 9))), noise)


def test_weight_norm_folds_to_what_torch_computes() -> None:
    """For a transposed convolution too, whose first axis is its input."""
    shapes = hift_tensors(TINY.hift)
    weights = golden_weights("tiny.hift.", shapes)
    folded = fold_weight_norm(weights)
    assert not any("parametrizations" in name for name in folded)
    assert len(folded) == len(shapes) - sum(name.endswith("original0") for name in shapes)
    for layer in ("conv_post", "ups.0"):
        gain, direction = (
            weights[f"{layer}.parametrizations.weight.original{index}"] for index in (0, 1)
        )
        expected = torch._weight_norm(direction, gain, 0)
        torch.testing.assert_close(folded[f"{layer}.weight"], expected, rtol=0, atol=1e-7)


def test_weight_norm_has_two_spellings() -> None:
    weights = golden_weights("tiny.hift.", hift_tensors(TINY.hift))
    older = {
        name.replace(".parametrizations.weight.original0", ".weight_g").replace(
            ".parametrizations.weight.original1", ".weight_v"
        ): tensor
        for name, tensor in weights.items()
    }
    assert older.keys() != weights.keys()
    assert {newer_name(name) for name in older} == weights.keys()
    folded, from_older = fold_weight_norm(weights), fold_weight_norm(older)
    assert folded.keys() == from_older.keys()
    assert all(torch.equal(folded[name], from_older[name]) for name in folded)
