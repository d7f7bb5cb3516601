"""From a folder on disk to a model that is ready to work, or one line that says why not."""

from __future__ import annotations

from pathlib import Path

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel

from engine.errors import LoadFailed
from engine.types import Device


def open_model(
    folder: Path, device: Device, compute_type: str | None, cpu_threads: int
) -> WhisperModel:
    """Load the weights. Never uses the network.

    Args:
        folder: Whole, as `models.find_model` finds it.
        device: "cpu", "cuda" or "cuda:N".
        compute_type: CTranslate2's; None is int8 on a CPU, float16 on a GPU.
        cpu_threads: 0 leaves it to CTranslate2.
    Raises:
        LoadFailed: no such device, not a type it computes in, or the files are damaged.
    """
    kind, index = _check_device(device)
    chosen = compute_type or ("float16" if kind == "cuda" else "int8")
    if chosen not in (known := ctranslate2.get_supported_compute_types(kind, index)):
        raise LoadFailed(
            f"{device} does not compute in {chosen}; compute_type may be {', '.join(sorted(known))}"
        )
    try:
        model = WhisperModel(
            str(folder),
            device=kind,
            device_index=index,
            compute_type=chosen,
            cpu_threads=cpu_threads,
            local_files_only=True,
        )
        if kind == "cuda":
            # Its libraries are looked for at the first computation: better now than in a request.
            model.encode(np.zeros((model.model.n_mels, 3000), np.float32))
    except Exception as exc:  # the tokenizers package raises just that
        reason = str(exc).partition("\n")[0]
        raise LoadFailed(
            f"the model in {folder} does not load: {reason} (if its files are damaged, delete them "
            "and run `rhapsode models pull`)"
        ) from exc
    bins = len(model.feature_extractor.mel_filters)
    if bins != model.model.n_mels:
        raise LoadFailed(
            f"the model in {folder} hears {model.model.n_mels} mel bins and gets {bins}: its "
            "preprocessor_config.json is missing or wrong"
        )
    return model


def _check_device(device: Device) -> tuple[str, int]:
    kind, _, number = device.partition(":")
    if kind not in {"cpu", "cuda"} or (number and not number.isdecimal()):
        raise LoadFailed(f'whisper runs on "cpu" or "cuda:N", not on {device!r}')
    index = int(number or 0)
    if kind == "cuda" and (found := ctranslate2.get_cuda_device_count()) <= index:
        raise LoadFailed(f"there is no {device}: CTranslate2 sees {found} CUDA devices here")
    return kind, index
