"""All parts of a checkpoint, loaded onto one device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from msgspec import Struct

from engine.config import GlmTtsOptions
from engine.errors import LoadFailed
from engine.glm_tts.checkpoint import Checkpoint, open_checkpoint, random_checkpoint
from engine.glm_tts.decoder import Decoder
from engine.glm_tts.dims import Rates, TokenIds
from engine.glm_tts.flow import Flow
from engine.glm_tts.llm import Llm
from engine.glm_tts.phonemes import PhonemeTables
from engine.glm_tts.prompt import PromptEncoder
from engine.glm_tts.speaker_encoder import CamPlus, MadeUpSpeakerEncoder, SpeakerEncoder
from engine.glm_tts.speech_tokenizer import SpeechTokenizer
from engine.glm_tts.text_frontend import TextFrontEnd
from engine.glm_tts.tokenizer import Tokenizer
from engine.glm_tts.vocoder import Hift
from engine.glm_tts.vocos import Vocos
from engine.types import Device

if TYPE_CHECKING:
    # It needs Triton, which comes with torch for CUDA only.
    from engine.glm_tts.cuda_flow import CudaFlow

_GPU_BATCH = 64
_CPU_BATCH = 1
"""A batch gains nothing there, and alone a job's bits depend on nothing else."""


class Model(Struct, frozen=True, kw_only=True):
    """What the pipeline works with."""

    revision: str
    description: str
    device: torch.device
    max_batch: int
    rates: Rates
    ids: TokenIds
    text: TextFrontEnd
    tokenizer: Tokenizer
    prompts: PromptEncoder
    decoder: Decoder
    flow: Flow | CudaFlow
    vocoder: Hift | Vocos


def load_model(options: GlmTtsOptions, device: Device) -> Model:
    """Find and load everything.

    Raises:
        LoadFailed: something is missing, damaged or contradictory.
    """
    target = _device(device)
    if target.type == "cuda":
        # Kernels are launched, and graphs recorded, on the current device of the process.
        torch.cuda.set_device(target)
    # float32 means float32: the vocoder's stream would no longer be its whole clip.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    # And a seed repeats: the fastest convolution may add up in whatever order its threads finish.
    torch.backends.cudnn.deterministic = True
    checkpoint = (
        open_checkpoint(options)
        if options.random_weights is None
        else random_checkpoint(options.size, options.random_weights)
    )
    dims = checkpoint.dims
    max_batch = options.max_batch or (_CPU_BATCH if target.type == "cpu" else _GPU_BATCH)
    llm = Llm(dims.llm, dims.ids, checkpoint.load_llm(target, _precision(options, target)))
    if options.llm_weights == "int8":
        llm.quantize()
    if target.type == "cuda":
        # What the matrices were stacked from is held for nobody.
        torch.cuda.empty_cache()
    return Model(
        revision=checkpoint.revision,
        description=_describe(checkpoint, target),
        device=target,
        max_batch=max_batch,
        rates=dims.rates,
        ids=dims.ids,
        text=_text(options, checkpoint),
        tokenizer=_tokenizer(checkpoint),
        prompts=_prompts(checkpoint, target),
        decoder=Decoder(llm, slots=max_batch, context_tokens=options.context_tokens, device=target),
        flow=_flow(options, checkpoint, target),
        vocoder=_vocoder(options, checkpoint, target),
    )


def _device(name: Device) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count()
    if not count:
        raise LoadFailed(f"device {name}: this machine has no CUDA device that torch can use")
    index = device.index or 0
    if index >= count:
        raise LoadFailed(f"device {name}: torch sees {count} CUDA devices, counted from 0")
    return torch.device("cuda", index)


def _precision(options: GlmTtsOptions, device: torch.device) -> torch.dtype:
    if options.precision == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return torch.float32 if options.precision == "float32" else torch.bfloat16


def _describe(checkpoint: Checkpoint, device: torch.device) -> str:
    if checkpoint.tokenizer_folder is None:
        return f"GLM-TTS's shape with random weights on {device}: it gives noise, not speech"
    return f"GLM-TTS on {device}: speaks Chinese and English with the voice of a prompt"


def _text(options: GlmTtsOptions, checkpoint: Checkpoint) -> TextFrontEnd:
    tables = None
    if options.phonemes:
        if checkpoint.tokenizer_folder is None:
            raise LoadFailed("phonemes: a model with random weights has no phoneme tables")
        tables = PhonemeTables.from_folder(checkpoint.tokenizer_folder.parent)
    return TextFrontEnd(normalize_numbers=options.normalize_text, phonemes=tables)


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    folder: Path | None = checkpoint.tokenizer_folder
    ids = checkpoint.dims.ids
    return Tokenizer.made_up(ids) if folder is None else Tokenizer.from_folder(folder, ids)


def _prompts(checkpoint: Checkpoint, device: torch.device) -> PromptEncoder:
    dims = checkpoint.dims
    tokenizer = SpeechTokenizer(dims.speech_tokenizer, checkpoint.load_speech_tokenizer(device))
    speaker: SpeakerEncoder
    if checkpoint.campplus is None:
        speaker = MadeUpSpeakerEncoder(seed=0)
    else:
        speaker = CamPlus(checkpoint.campplus)
    return PromptEncoder(dims.rates, tokenizer, speaker, device)


def _flow(options: GlmTtsOptions, checkpoint: Checkpoint, device: torch.device) -> Flow | CudaFlow:
    dims, weights = checkpoint.dims.flow, checkpoint.load_flow(device)
    precision = options.flow_precision
    if precision == "auto":
        precision = "float32" if device.type == "cpu" else "float16"
    if precision == "float32":
        return Flow(dims, weights)
    if device.type == "cpu":
        raise LoadFailed(f"flow_precision {precision} needs a GPU")
    from engine.glm_tts.cuda_flow import CudaFlow

    return CudaFlow(dims, weights, precision)


def _vocoder(options: GlmTtsOptions, checkpoint: Checkpoint, device: torch.device) -> Hift | Vocos:
    if options.sample_rate == 24_000:
        weights = checkpoint.load_hift(device)
        return Hift(checkpoint.dims.hift, weights, options.vocoder_precision)
    if checkpoint.vocos is None:
        raise LoadFailed("sample_rate 32000 needs vocos2d/generator_jit.ckpt, which is not there")
    return Vocos(checkpoint.vocos, device)
