"""From a voice to clone to what the models need of it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine.errors import InvalidRequest
from engine.glm_tts.audio import resample
from engine.glm_tts.dims import Rates
from engine.glm_tts.mel import MelSpectrogram
from engine.glm_tts.speaker_encoder import SpeakerEncoder
from engine.glm_tts.speech_tokenizer import SpeechTokenizer
from engine.types import PromptFeatures, VoicePrompt

_LEAST_S = 0.5


class PromptEncoder:
    """Hears a prompt as three models do.

    Args:
        rates: Of the model.
        tokenizer: Hears what is said.
        speaker: Hears who says it.
        device: Where the mel is computed; it hears how.
    """

    def __init__(
        self,
        rates: Rates,
        tokenizer: SpeechTokenizer,
        speaker: SpeakerEncoder,
        device: torch.device,
    ) -> None:
        self._rates = rates
        self._tokenizer = tokenizer
        self._speaker = speaker
        self._mel = MelSpectrogram(rates, device)
        self._device = device

    @torch.inference_mode()
    def encode(self, prompt: VoicePrompt) -> PromptFeatures:
        """The features of a prompt; its text plays no part.

        Returns:
            speech_tokens: int32 [N], 25 a second.
            mel: float32 [P, 80], 50 frames a second; may be some frames off 2 N.
            speaker: float32 [192].
        Raises:
            InvalidRequest: the sound is too short, or has samples that are not numbers.
        """
        audio = _checked(prompt)
        heard = resample(audio, prompt.sample_rate, self._rates.prompt_rate)
        full = resample(audio, prompt.sample_rate, self._rates.sample_rate).to(self._device)
        return PromptFeatures(
            {
                "speech_tokens": self._tokenizer.encode(heard).int().cpu().numpy(),
                "mel": self._mel(full[None])[0].cpu().numpy(),
                "speaker": self._speaker.embed(heard).numpy(),
            }
        )


def _checked(prompt: VoicePrompt) -> Tensor:
    """[T] float32 on the CPU, at the prompt's own rate."""
    samples = np.frombuffer(prompt.samples, np.float32)
    duration_s = len(samples) / prompt.sample_rate
    if duration_s < _LEAST_S:
        raise InvalidRequest(
            f"the voice's recording lasts {duration_s:.2f} s; at least {_LEAST_S} s are needed",
            param="voice",
        )
    if not np.isfinite(samples).all():
        raise InvalidRequest(
            "the voice's recording has samples that are not finite numbers", param="voice"
        )
    return torch.tensor(samples)
