"""`python -m engine.glm_tts.similarity`: how alike the speakers of two recordings sound.

Reads JSON from standard input, `{"model": folder or null, "pairs": [[file, file], ...]}` with WAV
or FLAC files, and writes a list: the cosine of the two speaker embeddings of each pair, by CAM++.
"""

from __future__ import annotations

import sys

import msgspec
import soundfile
import torch
from msgspec import Struct
from torch import Tensor

from engine.config import GlmTtsOptions
from engine.errors import LoadFailed
from engine.glm_tts.audio import resample
from engine.glm_tts.models import find_model
from engine.glm_tts.speaker_encoder import CamPlus, SpeakerEncoder

_RATE_HZ = 16_000


class Question(Struct, frozen=True):
    """What is asked."""

    pairs: list[tuple[str, str]]
    model: str | None = None


def similarities(encoder: SpeakerEncoder, pairs: list[tuple[str, str]]) -> list[float]:
    """Cosine of the embeddings of each pair of files, -1 to 1."""
    files = {file for pair in pairs for file in pair}
    embeddings = {file: encoder.embed(_read(file)) for file in files}
    return [
        float(torch.cosine_similarity(embeddings[first], embeddings[second], 0))
        for first, second in pairs
    ]


def main() -> int:
    """Answer one question; the exit status."""
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    try:
        encoder = CamPlus(find_model(GlmTtsOptions(model=question.model)).campplus)
        answer = similarities(encoder, question.pairs)
    except (LoadFailed, soundfile.SoundFileError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


def _read(file: str) -> Tensor:
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    return resample(torch.from_numpy(samples.mean(1)), rate, _RATE_HZ)


if __name__ == "__main__":
    sys.exit(main())
