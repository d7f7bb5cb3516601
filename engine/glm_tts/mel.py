"""Log-mel features: the prompt's, which the flow continues, and the speech tokenizer's.

Both measure in bands of Slaney's mel scale. Any thread.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from engine.glm_tts.dims import Rates

_HIGHEST_HZ = 8000.0

# Slaney's scale is linear up to the knee and logarithmic beyond it.
_KNEE_HZ = 1000.0
_HZ_PER_MEL = 200 / 3
_KNEE_MEL = _KNEE_HZ / _HZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27

WHISPER_HOP = 160
"""Samples at 16 kHz of a frame of `WhisperSpectrogram`."""
_WHISPER_HZ = 16_000
_WHISPER_N_FFT = 400


class MelSpectrogram:
    """The mel that the flow makes and the vocoder reads.

    Args:
        rates: Give the sample rate, the hop and the window.
        device: Of the audio.
        mels: Bands.
    """

    def __init__(self, rates: Rates, device: torch.device, mels: int = 80) -> None:
        self._n_fft = rates.n_fft
        self._hop = rates.hop
        self._window = torch.hann_window(rates.n_fft, device=device)
        self._filters = slaney_filters(mels, rates.n_fft, rates.sample_rate).to(device)

    def __call__(self, audio: Tensor) -> Tensor:
        """Natural logarithm of each band's magnitude.

        Args:
            audio: [B, T] float32 at rates.sample_rate, T > 1.5 * rates.hop.
        Returns:
            [B, T // hop, mels] float32.
        """
        padding = (self._n_fft - self._hop) // 2
        padded = functional.pad(audio[:, None], (padding, padding), mode="reflect")[:, 0]
        spectrum = torch.stft(
            padded,
            self._n_fft,
            self._hop,
            window=self._window,
            center=False,
            return_complex=True,
        )
        magnitudes = torch.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-9)
        return (self._filters @ magnitudes).clamp_min(1e-5).log().mT


class WhisperSpectrogram:
    """Whisper's features: how far each band is below the clip's loudest, at most 80 dB.

    Args:
        mels: Bands.
        device: Of the audio.
    """

    def __init__(self, mels: int, device: torch.device) -> None:
        self._window = torch.hann_window(_WHISPER_N_FFT, device=device)
        self._filters = slaney_filters(mels, _WHISPER_N_FFT, _WHISPER_HZ).to(device)

    def __call__(self, audio: Tensor) -> Tensor:
        """Features of clips, each padded with zeros.

        Args:
            audio: [B, T] float32 at 16 kHz, more than 200 samples.
        Returns:
            [B, mels, T // 160] float32.
        """
        spectrum = torch.stft(
            audio, _WHISPER_N_FFT, WHISPER_HOP, window=self._window, return_complex=True
        )
        powers = spectrum[..., :-1].abs() ** 2
        logs = (self._filters @ powers).clamp_min(1e-10).log10()
        loudest = logs.amax((1, 2), keepdim=True)
        return (torch.maximum(logs, loudest - 8) + 4) / 4


def slaney_filters(mels: int, n_fft: int, sample_rate: int) -> Tensor:
    """Overlapping triangles of equal area, evenly spaced from 0 to 8 kHz on Slaney's mel scale.

    Returns:
        [mels, n_fft // 2 + 1] float32.
    """
    highest_mel = _KNEE_MEL + math.log(_HIGHEST_HZ / _KNEE_HZ) / _LOG_STEP
    edges = _hertz(torch.linspace(0, highest_mel, mels + 2, dtype=torch.float64))
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rise = (bins - left) / (centre - left)
    fall = (right - bins) / (right - centre)
    triangles = torch.minimum(rise, fall).clamp_min(0)
    return (triangles * 2 / (right - left)).float()


def _hertz(mels: Tensor) -> Tensor:
    linear = mels * _HZ_PER_MEL
    return torch.where(
        mels < _KNEE_MEL, linear, _KNEE_HZ * torch.exp((mels - _KNEE_MEL) * _LOG_STEP)
    )
