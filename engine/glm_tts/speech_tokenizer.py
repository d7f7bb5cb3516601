"""The speech tokenizer: half of a Whisper encoder, whose vectors are named by a codebook.

audio -> log-mel features, 100 Hz -> convolutions, 50 Hz -> transformer -> mean of two, 25 Hz -> the
nearest of the codebook's vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from engine.glm_tts.dims import SpeechTokenizerDims
from engine.glm_tts.mel import WHISPER_HOP, WhisperSpectrogram
from engine.glm_tts.tensors import Weights

_CONV_STRIDE = 2


class SpeechTokenizer:
    """Hears what is said, and how.

    Float32 throughout: a rounding error is enough to give another code. It computes where the
    weights are.

    Args:
        dims: Of the encoder.
        weights: As `tensors.speech_tokenizer_tensors` names them; others are ignored.
    """

    def __init__(self, dims: SpeechTokenizerDims, weights: Weights) -> None:
        self._block = dims.block
        self._pooling = dims.pooling
        self._piece_samples = dims.positions * _CONV_STRIDE * WHISPER_HOP
        self._conv1 = weights["conv1.weight"], weights["conv1.bias"]
        self._conv2 = weights["conv2.weight"], weights["conv2.bias"]
        self._positions = weights["embed_positions.weight"]
        self._layers = [
            _Layer(weights, f"layers.{index}", dims.heads) for index in range(dims.layers)
        ]
        self._codebook = weights["codebook.weight"]
        self._codebook_square = self._codebook.square().sum(1)
        self._spectrogram = WhisperSpectrogram(dims.mels, self._codebook.device)

    @torch.inference_mode()
    def encode(self, audio: Tensor) -> Tensor:
        """Speech tokens of a recording; each piece of 30 s is heard for itself.

        Args:
            audio: [T] float32 at 16 kHz, any length but 0.
        Returns:
            [N] int64: for each piece, a token for every 640 samples or part of them.
        """
        pieces = torch.split(audio.to(self._codebook.device), self._piece_samples)
        features, is_heard = self.features(pieces)
        codes = self.codes(self.forward(features, is_heard))
        # Waits for the device, once a prompt: only the mask knows how many tokens there are.
        return codes[is_heard[:, :: _CONV_STRIDE * self._pooling]]

    @torch.inference_mode()
    def features(self, pieces: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What the encoder hears of some pieces, padded to the longest and to whole tokens.

        Args:
            pieces: [T] float32 each, at 16 kHz.
        Returns:
            Features, [B, M, F] float32 at 100 Hz; and which frames are not padding, [B, F] bool.
        """
        token_samples = self._pooling * _CONV_STRIDE * WHISPER_HOP
        audio = pad_sequence(list(pieces), batch_first=True)
        audio = functional.pad(audio, (0, -audio.shape[1] % token_samples))
        starts = torch.arange(0, audio.shape[1], WHISPER_HOP, device=audio.device)
        lengths = torch.tensor([len(piece) for piece in pieces], device=audio.device)
        return self._spectrogram(audio), starts < lengths[:, None]

    @torch.inference_mode()
    def forward(self, features: Tensor, is_heard: Tensor) -> Tensor:
        """The encoder.

        Args:
            features: [B, M, F] float32, as `features` gives them.
            is_heard: [B, F] bool: false for padding.
        Returns:
            [B, N, D] float32, a vector for each token.
        """
        hidden = self._embed(features)
        visible = self._visible(is_heard)
        for layer in self._layers:
            hidden = layer(hidden, visible)
        return functional.avg_pool1d(hidden.mT, self._pooling).mT

    @torch.inference_mode()
    def codes(self, vectors: Tensor) -> Tensor:
        """Indices of the nearest vectors of the codebook, the first of equals.

        Args:
            vectors: [B, N, D] float32.
        Returns:
            [B, N] int64.
        """
        return self._distances(vectors).argmin(-1)

    @torch.inference_mode()
    def margins(self, vectors: Tensor) -> Tensor:
        """How much farther the second nearest code is: what an error must stay below.

        Args:
            vectors: [B, N, D] float32.
        Returns:
            [B, N] float32, of squared distances.
        """
        nearest, second = self._distances(vectors).topk(2, largest=False).values.unbind(-1)
        return second - nearest

    def _embed(self, features: Tensor) -> Tensor:
        """[B, M, F] -> [B, F/2, D]."""
        hidden = functional.gelu(functional.conv1d(features, *self._conv1, padding=1))
        hidden = functional.gelu(
            functional.conv1d(hidden, *self._conv2, stride=_CONV_STRIDE, padding=1)
        )
        return hidden.mT + self._positions[: hidden.shape[2]]

    def _visible(self, is_heard: Tensor) -> Tensor:
        """What a frame attends to: all up to the end of its block, but no padding.

        Returns:
            [B, 1, F/2 of the query, F/2 of the key] bool.
        """
        is_key = is_heard[:, ::_CONV_STRIDE]
        frames = torch.arange(is_key.shape[1], device=is_key.device)
        ends = (frames // self._block + 1) * self._block
        return ((frames < ends[:, None]) & is_key[:, None])[:, None]

    def _distances(self, vectors: Tensor) -> Tensor:
        """Squared, [B, N, D] -> [B, N, codes]."""
        flat = vectors.flatten(0, 1)
        squares = flat.square().sum(1, keepdim=True) + self._codebook_square
        distances = torch.addmm(squares, flat, self._codebook.T, alpha=-2)
        return distances.view(*vectors.shape[:2], -1)


class _Layer:
    """A layer of the transformer, normed before attention and before the feed-forward part."""

    def __init__(self, weights: Weights, name: str, heads: int) -> None:
        def layer(part: str) -> tuple[Tensor, Tensor]:
            return weights[f"{name}.{part}.weight"], weights[f"{name}.{part}.bias"]

        self._heads = heads
        query, query_bias = layer("self_attn.q_proj")
        key = weights[f"{name}.self_attn.k_proj.weight"]
        value, value_bias = layer("self_attn.v_proj")
        self._attention_norm = layer("self_attn_layer_norm")
        self._inward = (
            torch.cat((query, key, value)),
            torch.cat((query_bias, torch.zeros_like(query_bias), value_bias)),
        )
        self._outward = layer("self_attn.out_proj")
        self._feed_norm = layer("final_layer_norm")
        self._widen = layer("fc1")
        self._narrow = layer("fc2")

    def __call__(self, hidden: Tensor, visible: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]; `visible` is [B, 1, T, T]."""
        normed = functional.layer_norm(hidden, hidden.shape[-1:], *self._attention_norm)
        mixed = functional.linear(normed, *self._inward)
        # [B, T, 3 * D] -> three times [B, H, T, D / H]
        query, key, value = mixed.view(*mixed.shape[:2], 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        heads = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        hidden = hidden + functional.linear(heads.transpose(1, 2).flatten(2), *self._outward)
        normed = functional.layer_norm(hidden, hidden.shape[-1:], *self._feed_norm)
        wide = functional.gelu(functional.linear(normed, *self._widen))
        return hidden + functional.linear(wide, *self._narrow)
