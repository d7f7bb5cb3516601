"""Parity of the vocoder, the speech tokenizer and the language model."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from msgspec.structs import replace
from torch import Tensor

from engine.glm_tts.config_files import llm_dims
from engine.glm_tts.dims import TINY, TRUE, SpeechTokenizerDims, TokenIds
from engine.glm_tts.kv_cache import KvCache
from engine.glm_tts.llm import Llm
from engine.glm_tts.parity_goldens import Comparison, Goldens
from engine.glm_tts.source import HARMONICS, HOP, HarmonicSource, PitchPredictor
from engine.glm_tts.speech_tokenizer import SpeechTokenizer
from engine.glm_tts.tensors import (
    fold_weight_norm,
    hift_tensors,
    llm_tensors,
    speech_tokenizer_tensors,
)
from engine.glm_tts.vocoder import Hift

_LONG_FRAMES = 100
"""From here on the phase's rounding in the original decides how far the audio is off."""
_CLEAR_MARGIN = 1e-3
"""Of squared distances: a code that wins by less may be another's by rounding."""
_TINY_EARS = SpeechTokenizerDims(
    width=64, heads=4, ff=128, layers=4, mels=16, positions=100, codes=48, block=8
)


@torch.inference_mode()
def hift(goldens: Goldens) -> Iterator[Comparison]:
    """Mel to audio."""
    dims = (TRUE if goldens.is_true else TINY).hift
    weights = fold_weight_norm(goldens.weights("hift", hift_tensors(dims)))
    vocoder, pitch, source = Hift(dims, weights), PitchPredictor(weights), HarmonicSource(weights)
    for tag in goldens.tags(".wav"):
        frames = goldens[f"{tag}.wav"].shape[1] // HOP
        mel = goldens.get(f"{tag}.mel", (1, dims.mels, frames), 1.5, -4)
        noise = goldens.get(f"{tag}.noise", (1, HOP * frames, HARMONICS))
        f0 = pitch(mel)
        if f"{tag}.f0" in goldens:
            yield goldens.near(f"{tag}.f0", f0, 1e-3, "Hz")
        if f"{tag}.source" in goldens:
            mixed = source.mix(f0, source.sines(f0, source.cycles(f0)[..., 1:]), noise)
            yield goldens.near(f"{tag}.source", mixed[:, None], 1e-4)
        bound = 5e-3 if frames > _LONG_FRAMES else 1e-3
        yield goldens.near(f"{tag}.wav", vocoder.whole(mel.mT, noise), bound)


def speech_tokenizer(goldens: Goldens) -> Iterator[Comparison]:
    """A prompt's features to speech tokens."""
    dims = TRUE.speech_tokenizer if goldens.is_true else _TINY_EARS
    model = SpeechTokenizer(dims, goldens.weights("wvq", speech_tokenizer_tensors(dims)))
    for tag in goldens.tags(".ids"):
        ids = goldens[f"{tag}.ids"]
        margin = goldens[f"{tag}.margin"].view_as(ids)
        features = goldens.get(f"{tag}.features", (len(ids), dims.mels, 4 * ids.shape[1]))
        is_heard = _mask(goldens, f"{tag}.attention_mask", features[:, 0])
        is_token = _mask(goldens, f"{tag}.ids_mask", ids)
        vectors = model.forward(features, is_heard)
        bound = 1e-3 if goldens.is_true else 1e-5
        wanted = goldens[f"{tag}.pre_vq"]
        yield goldens.apart(f"{tag}.pre_vq", vectors[is_token], wanted[is_token], bound)
        is_clear = is_token & (margin > _CLEAR_MARGIN)
        close = int(is_token.sum() - is_clear.sum())
        yield goldens.equal(
            f"{tag}.ids",
            model.codes(vectors)[is_clear],
            ids[is_clear],
            f"{close} too close to tell",
        )


def _mask(goldens: Goldens, name: str, like: Tensor) -> Tensor:
    """A mask, bool; true everywhere if the file has none."""
    return goldens[name].bool() if name in goldens else torch.ones_like(like, dtype=torch.bool)


def llm(goldens: Goldens) -> Iterator[Comparison]:
    """Logits, each step given the tokens that the original drew."""
    dims = replace(llm_dims(goldens.path.with_name("llm_tiny_config.json")), max_positions=512)
    first = int(goldens["ats"])
    ids = TokenIds(
        pad=int(goldens["pad"]),
        end=int(goldens["eoa"]),
        begin=int(goldens["boa"]),
        first_audio=first,
        audio_tokens=int(goldens["ate"]) - first + 1,
    )
    model = Llm(dims, ids, goldens.weights("llm", llm_tensors(dims)), full_head=True)
    slot = torch.zeros(1, dtype=torch.int64, device=goldens.device)
    for tag in goldens.tags(".last_logits"):
        cache = KvCache(dims, 1, dims.max_positions, goldens.device, model.dtype)
        prompt = _llm_prompt(goldens, tag, ids)[None]
        logits = [model.prefill(prompt, torch.full_like(slot, prompt.shape[1]), slot, cache)]
        drawn = goldens[f"{tag}.out"][0] + first
        wanted = goldens[f"{tag}.last_logits"]
        logits += [model.decode(each[None], slot, cache) for each in drawn[: len(wanted) - 1]]
        yield goldens.near(f"{tag}.last_logits", torch.cat(logits), 1e-4)
    yield _prefill(goldens, model)


def _llm_prompt(goldens: Goldens, tag: str, ids: TokenIds) -> Tensor:
    text = goldens[f"{tag}.text"][0].long()
    names = ("prompt_text", "prompt_speech")
    prompt_text, prompt_speech = (
        goldens[f"{tag}.{name}"][0].long() if f"{tag}.{name}" in goldens else text for name in names
    )
    begin = torch.full((1,), ids.begin, device=goldens.device)
    return torch.cat((prompt_text, text, begin, prompt_speech + ids.first_audio))


def _prefill(goldens: Goldens, model: Llm) -> Comparison:
    """After each token of a prompt: a row of a batch for each."""
    prompt, wanted = goldens["prefill.ids"], goldens["prefill.logits"][0]
    rows = prompt.shape[1]
    cache = KvCache(model.dims, rows, rows, goldens.device, model.dtype)
    slots = torch.arange(rows, device=goldens.device)
    logits = model.prefill(prompt.expand(rows, -1), slots + 1, slots, cache)
    return goldens.apart("prefill.logits", logits, wanted, 1e-4)
