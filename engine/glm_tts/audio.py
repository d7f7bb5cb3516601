"""Resampling, and the speaker encoder's features: what the model was trained with, torchaudio's.

The one module that imports torchaudio.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from types import ModuleType
from typing import cast

from torch import Tensor

_FBANK_HZ = 16_000
_FBANK_BINS = 80
_LONGEST_CYCLE = 1000
"""Input samples after which a resampler's weights repeat."""


def _leave_extension_out() -> None:
    """Import torchaudio as if it had been built without its compiled part.

    Its wheel is linked against one build of CUDA and does not import beside a torch of another, or
    of none. What is used here is plain torch. Private names: pyproject.toml pins the version.
    """
    extension = ModuleType("torchaudio._extension")
    vars(extension).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False, fail_if_no_align=lambda function: function
    )
    sys.modules.setdefault(extension.__name__, extension)


_leave_extension_out()
from torchaudio.compliance import kaldi  # noqa: E402  the line above must come first
from torchaudio.transforms import Resample  # noqa: E402


def resample(audio: Tensor, from_hz: int, to_hz: int) -> Tensor:
    """Audio at another rate, by a windowed sinc.

    Args:
        audio: [..., T] float32.
        from_hz: Its rate.
        to_hz: The rate that is wanted, within a factor of 12.
    Returns:
        [..., ceil(T * to_hz / from_hz)] float32.
    """
    # The weights take memory as one rate times the other, less what the two have in common:
    # gigabytes for 47999 Hz. Such a rate is rounded, by less than a hundredth of a semitone.
    ratio = Fraction(to_hz, from_hz).limit_denominator(_LONGEST_CYCLE)
    return cast("Tensor", Resample(ratio.denominator, ratio.numerator).to(audio.device)(audio))


def kaldi_fbank(audio: Tensor) -> Tensor:
    """Log energies of mel bands as Kaldi defines them, in frames of 25 ms every 10 ms.

    Args:
        audio: [1, T] float32 at 16 kHz, at least 400 samples.
    Returns:
        [(T - 240) // 160, 80] float32, not centred.
    """
    frames = kaldi.fbank(audio, num_mel_bins=_FBANK_BINS, sample_frequency=_FBANK_HZ, dither=0.0)
    return cast("Tensor", frames)
