"""Checkpoints: small ones laid out as the published one is, whole and with every kind of harm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from safetensors.torch import save_file

from engine.config import GlmTtsOptions
from engine.errors import LoadFailed
from engine.glm_tts.checkpoint import Checkpoint, open_checkpoint, random_checkpoint
from engine.glm_tts.dims import TINY, Rates
from engine.glm_tts.golden_weights import golden_weights
from engine.glm_tts.tensors import (
    Weights,
    flow_tensors,
    fold_weight_norm,
    hift_tensors,
    speech_tokenizer_tensors,
)
from engine.tests.glm_tts.goldens import golden

CPU = torch.device("cpu")
EARS = replace(TINY.speech_tokenizer, mels=16, positions=20)
LLM = golden("llm_tiny_weights")
FLOW = golden_weights("tiny.flow.", flow_tensors(TINY.flow))
HIFT = golden_weights("tiny.hift.", hift_tensors(TINY.hift))

LLM_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 96,
    "vocab_size": 320,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
EARS_CONFIG = {
    "d_model": EARS.width,
    "encoder_attention_heads": EARS.heads,
    "encoder_ffn_dim": EARS.ff,
    "encoder_layers": 6,
    "num_mel_bins": EARS.mels,
    "max_source_positions": EARS.positions,
    "pooling_kernel_size": 2,
    "pooling_type": "avg",
    "pooling_position": EARS.layers,
    "quantize_position": EARS.layers,
    "quantize_vocab_size": EARS.codes,
    "quantize_causal_block_size": EARS.block,
    "encoder_causal_attention": False,
}
FLOW_CONFIG = """\
# a comment
dit:
  spkr_emb_adaLN: True
  speech_token_cfg: False
  mel_dim: 80   # bins
flow:
    mel_framerate: 50
    input_frame_rate: 25
"""
TOKENS = {
    256: "<|endoftext|>",
    257: "<|user|>",
    258: "<|begin_of_audio|>",
    **{260 + index: f"<|audio_{index}|>" for index in range(48)},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole model."""
    for name in ("llm", "flow", "hift", "speech_tokenizer", "vq32k-phoneme-tokenizer"):
        (tmp_path / name).mkdir()
    put_json(tmp_path / "llm/config.json", LLM_CONFIG)
    put_llm(tmp_path, LLM)
    (tmp_path / "flow/config.yaml").write_text(FLOW_CONFIG)
    torch.save({"model": FLOW, "epoch": 3}, tmp_path / "flow/flow.pt")
    torch.save(HIFT, tmp_path / "hift/hift.pt")
    put_json(tmp_path / "speech_tokenizer/config.json", EARS_CONFIG)
    save_file(stored_ears(), tmp_path / "speech_tokenizer/model.safetensors")
    (tmp_path / "vq32k-phoneme-tokenizer/tokenizer.model").write_bytes(b"")
    put_tokens(tmp_path, TOKENS)
    (tmp_path / "campplus.onnx").write_bytes(b"speaker")
    return tmp_path


def put_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def put_tokens(folder: Path, tokens: dict[int, str]) -> None:
    added = {str(index): {"content": content, "special": True} for index, content in tokens.items()}
    put_json(
        folder / "vq32k-phoneme-tokenizer/tokenizer_config.json", {"added_tokens_decoder": added}
    )


def put_llm(folder: Path, weights: Weights) -> None:
    """In two files and an index."""
    names = sorted(weights)
    shards = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: weights[name] for name in held}, folder / "llm" / shard)
    index = {name: shard for shard, held in shards.items() for name in held}
    put_json(folder / "llm/model.safetensors.index.json", {"metadata": {}, "weight_map": index})


def stored_ears() -> Weights:
    """With what training leaves behind, and with layers that do not run."""
    shapes = speech_tokenizer_tensors(replace(EARS, layers=6))
    shapes |= {"embed_positions2.weight": (10, 64), "ema_count": (48,), "ema_weight": (48, 64)}
    shapes |= {"layer_norm.weight": (64,), "layer_norm.bias": (64,)}
    stored = {
        f"model.encoder.{name}": tensor
        for name, tensor in golden_weights("tiny.wvq.", shapes).items()
    }
    return {**stored, "model.decoder.layers.0.fc1.weight": torch.zeros(2, 2)}


def opened(folder: Path) -> Checkpoint:
    return open_checkpoint(GlmTtsOptions(model=str(folder)))


def refusal(folder: Path) -> str:
    """Why it does not open, the folder's name cut out."""
    with pytest.raises(LoadFailed) as caught:
        opened(folder)
    return str(caught.value).replace(f"{folder}/", "")


def assert_same(ours: Weights, theirs: Weights) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=0)


def test_files_come_back_as_they_were_stored(folder: Path) -> None:
    checkpoint = opened(folder)
    assert checkpoint.dims == replace(TINY, speech_tokenizer=EARS)
    assert_same(checkpoint.load_llm(CPU), LLM)
    assert_same(checkpoint.load_flow(CPU), FLOW)
    assert_same(checkpoint.load_hift(CPU), fold_weight_norm(HIFT))
    ears = checkpoint.load_speech_tokenizer(CPU)
    assert_same(ears, golden_weights("tiny.wvq.", speech_tokenizer_tensors(EARS)))
    assert checkpoint.tokenizer_folder == folder / "vq32k-phoneme-tokenizer"
    assert checkpoint.campplus == folder / "campplus.onnx"
    assert checkpoint.vocos is None


def test_weights_come_in_the_precision_that_is_asked_for(folder: Path) -> None:
    weights = opened(folder).load_llm(CPU, torch.bfloat16)
    assert_same(weights, {name: tensor.bfloat16() for name, tensor in LLM.items()})


def test_a_model_in_one_file_with_a_head_of_its_own_is_the_same(folder: Path) -> None:
    for path in (folder / "llm").glob("*safetensors*"):
        path.unlink()
    head = {"lm_head.weight": LLM["model.embed_tokens.weight"].clone()}
    save_file(LLM | head, folder / "llm/model.safetensors")
    assert_same(opened(folder).load_llm(CPU), LLM)


def test_weight_norm_may_have_its_older_names(folder: Path) -> None:
    older = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in HIFT.items()
    }
    torch.save(older, folder / "hift/hift.pt")
    assert_same(opened(folder).load_hift(CPU), fold_weight_norm(HIFT))


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_a_state_dict_may_be_bare_and_in_the_oldest_format(folder: Path, is_wrapped: bool) -> None:
    content = {"model": FLOW} if is_wrapped else FLOW
    torch.save(content, folder / "flow/flow.pt", _use_new_zipfile_serialization=False)
    assert_same(opened(folder).load_flow(CPU), FLOW)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    put_llm(folder, {name: each for name, each in LLM.items() if name != "model.norm.weight"})
    assert refusal(folder) == "llm has no model.norm.weight, which llm/config.json asks for"


def test_an_unexpected_tensor_is_named(folder: Path) -> None:
    torch.save(FLOW | {"estimator.extra": torch.zeros(1)}, folder / "flow/flow.pt")
    assert refusal(folder) == (
        "flow/flow.pt has estimator.extra, which the rest of the file has no place for"
    )


def test_a_wrong_shape_is_told_with_both_sides(folder: Path) -> None:
    put_json(folder / "llm/config.json", LLM_CONFIG | {"intermediate_size": 100})
    assert refusal(folder) == (
        "llm/two.safetensors: model.layers.0.mlp.gate_proj.weight is [96, 64], and by "
        "llm/config.json it should be [100, 64]"
    )


def test_a_flow_whose_tensors_contradict_each_other_is_refused(folder: Path) -> None:
    torch.save(FLOW | {"estimator.proj_out.weight": torch.zeros(80, 64)}, folder / "flow/flow.pt")
    assert refusal(folder).startswith("flow/flow.pt: estimator.proj_out.weight is [80, 64]")


@pytest.mark.parametrize(
    "name",
    ["llm/one.safetensors", "flow/flow.pt", "hift/hift.pt", "speech_tokenizer/model.safetensors"],
)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_a_truncated_file_is_named(folder: Path, name: str, kept: float) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(kept * len(content))])
    assert refusal(folder).startswith(f"{name} is damaged: ")


def test_a_shard_of_the_index_that_is_not_there_is_named(folder: Path) -> None:
    (folder / "llm/two.safetensors").unlink()
    assert refusal(folder) == "there is no llm/two.safetensors"


class Harm:
    """What a file that is not to be trusted would do."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("harm"),))


def test_a_file_cannot_execute_anything(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    torch.save({"model": FLOW, "harm": Harm()}, folder / "flow/flow.pt")
    assert refusal(folder).startswith("flow/flow.pt is damaged: ")
    assert not Path("harm").exists()


def test_something_else_than_tensors_is_refused(folder: Path) -> None:
    torch.save({"optimizer": {"lr": 0.1}}, folder / "flow/flow.pt")
    assert "flow/flow.pt is not a state dict" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "changed", "reason"),
    [
        ("llm/config.json", {"tie_word_embeddings": False}, "tie_word_embeddings"),
        ("llm/config.json", {"rope_scaling": {"factor": 2.0}}, "rope_scaling"),
        ("llm/config.json", {"model_type": "glm"}, "model_type"),
        ("speech_tokenizer/config.json", {"pooling_position": 3}, "and quantize_position 4"),
        ("speech_tokenizer/config.json", {"encoder_causal_attention": True}, "causal_attention"),
        ("speech_tokenizer/config.json", {"quantize_vocab_size": 47}, "47 codes"),
        ("speech_tokenizer/config.json", {"quantize_vocab_size": 49}, "<|audio_48|>"),
    ],
)
def test_a_configuration_for_something_else_is_refused(
    folder: Path, name: str, changed: dict[str, object], reason: str
) -> None:
    path = folder / name
    put_json(path, json.loads(path.read_text()) | changed)
    assert reason in refusal(folder)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("  mel_dim: 100", "mel_dim is 100, and the flow's tensors are for 80 bins"),
        ("  mel_dim: !ref <mels>", "one number for mel_dim"),
        (
            "  mel_framerate: 100",
            "100 mel frames a second, 240 samples each, and hift.pt makes 480",
        ),
        ("  speech_token_cfg: True", "speech_token_cfg is True; only false is known here"),
    ],
)
def test_a_flow_configuration_for_something_else_is_refused(
    folder: Path, line: str, reason: str
) -> None:
    key = line.partition(":")[0].strip()
    others = [each for each in FLOW_CONFIG.splitlines() if f"{key}:" not in each]
    (folder / "flow/config.yaml").write_text("\n".join([*others, line]))
    assert reason in refusal(folder)


def test_a_token_beyond_the_language_model_is_refused(folder: Path) -> None:
    put_tokens(folder, TOKENS | {320: "<|more|>"})
    assert "has the token 320, and the language model 320 in all" in refusal(folder)


def test_ids_are_resolved_by_their_names(folder: Path) -> None:
    moved = {index + 5: content for index, content in TOKENS.items()}
    put_tokens(folder, moved)
    ids = opened(folder).dims.ids
    assert (ids.pad, ids.end, ids.begin, ids.first_audio) == (261, 262, 263, 265)


def test_a_revision_changes_with_a_weight_and_with_the_rate(folder: Path) -> None:
    first = opened(folder).revision
    assert opened(folder).revision == first
    (folder / "vocos2d").mkdir()
    (folder / "vocos2d/generator_jit.ckpt").write_bytes(b"vocos")
    assert opened(folder).revision == first
    other = open_checkpoint(GlmTtsOptions(model=str(folder), sample_rate=32_000))
    assert other.dims.rates == Rates(sample_rate=32_000)
    assert other.vocos == folder / "vocos2d/generator_jit.ckpt"
    ears = {name: tensor + 1e-3 for name, tensor in stored_ears().items()}
    save_file(ears, folder / "speech_tokenizer/model.safetensors")
    assert len({first, other.revision, opened(folder).revision}) == 3


def all_parts(checkpoint: Checkpoint) -> Weights:
    return {
        **checkpoint.load_llm(CPU),
        **checkpoint.load_flow(CPU),
        **checkpoint.load_hift(CPU),
        **checkpoint.load_speech_tokenizer(CPU),
    }


def test_random_weights_repeat_and_differ_by_seed_and_name() -> None:
    first, again, other = (random_checkpoint("tiny", seed) for seed in (1, 1, 2))
    assert (first.revision, other.revision) == ("random-tiny-1", "random-tiny-2")
    weights = all_parts(first)
    assert_same(weights, all_parts(again))
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    others = all_parts(other)
    assert {name for name in weights if torch.equal(weights[name], others[name])} == {
        "estimator.rotary_embed.inv_freq",
        "f0_predictor.classifier.bias",
    }
    up, gate = (weights[f"model.layers.0.mlp.{name}_proj.weight"] for name in ("up", "gate"))
    assert not torch.equal(up, gate)


def test_random_weights_are_whole_and_of_the_asked_precision() -> None:
    checkpoint = random_checkpoint("tiny", 0)
    weights = checkpoint.load_llm(CPU, torch.bfloat16)
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert {name: tuple(each.shape) for name, each in weights.items()} == {
        name: tuple(each.shape) for name, each in LLM.items()
    }
    assert checkpoint.load_hift(CPU).keys() == fold_weight_norm(HIFT).keys()
