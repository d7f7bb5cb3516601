"""Compares this implementation with numbers that the original one gave on the same weights.

    python -m engine.glm_tts.parity FOLDER [--device cuda] [--json]

The folder holds golden files (engine/tests/data/glm_tts/README.md says what is in them). Weights
come from a file beside each, or from the formula. Ends with 1 if a number is off, or if there was
nothing to compare.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec
import torch

from engine.glm_tts import parity_checks_flow as flow
from engine.glm_tts import parity_checks_models as models
from engine.glm_tts import parity_checks_signals as signals
from engine.glm_tts.parity_goldens import Comparison, Goldens

Check: TypeAlias = Callable[[Goldens], Iterator[Comparison]]

CHECKS: dict[str, Check] = {
    "dit_tiny": flow.dit,
    "dit_true": flow.dit,
    "flow_tiny": flow.flow,
    "flow_true": flow.flow,
    "hift_tiny": models.hift,
    "hift_true": models.hift,
    "whispervq_tiny": models.speech_tokenizer,
    "whispervq_true": models.speech_tokenizer,
    "llm_tiny": models.llm,
    "ras": signals.sampler,
    "block_masks": signals.block_masks,
    "audio_mel_resample": signals.audio,
    "kaldi_fbank": signals.fbank,
    "whisper_features": signals.whisper_features,
    "stream_policy": signals.stream_lengths,
    "text_frontend": signals.text,
}
"""By the file's name, without `_dims` at its end."""


def compare(folder: Path, device: torch.device) -> Iterator[Comparison]:
    """Run what there are golden files for.

    Args:
        folder: Of the files.
        device: Where to compute; float32, without the shortcuts that a GPU takes.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    for path in sorted(folder.iterdir()):
        if check := CHECKS.get(path.stem.removesuffix("_dims")):
            yield from check(Goldens(path, device))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each tensor, or JSON; see the module."""
    parser = argparse.ArgumentParser(description="Compare with the original's numbers.")
    parser.add_argument("folder", type=Path, help="of the golden files")
    parser.add_argument("--device", type=torch.device, default="cpu", help='"cuda", "cuda:1", ...')
    parser.add_argument("--json", action="store_true", help="one object a line")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        parser.error(f"there is no folder {options.folder}")
    compared = missed = 0
    for comparison in compare(options.folder, options.device):
        compared += 1
        missed += not comparison.is_near
        print(msgspec.json.encode(comparison).decode() if options.json else comparison.line)
    if not options.json:
        print(f"{compared} compared, {missed} missed" if compared else "no golden file found")
    return 0 if compared and not missed else 1


if __name__ == "__main__":
    sys.exit(main())
