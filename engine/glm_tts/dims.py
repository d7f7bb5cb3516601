"""Sizes, rates and ids of a GLM-TTS checkpoint. A checkpoint's own files are asked first."""

from __future__ import annotations

from msgspec import Struct


class Rates(Struct, frozen=True, kw_only=True):
    """How time is counted."""

    token_hz: int = 25
    """Speech tokens a second."""
    mel_hz: int = 50
    """Mel frames a second."""
    sample_rate: int = 24_000
    """Hz, of the mel and of the vocoder's audio; 24000 or 32000."""
    prompt_rate: int = 16_000
    """Hz, at which the speech tokenizer and the speaker encoder listen."""

    @property
    def hop(self) -> int:
        """Samples of a mel frame."""
        return self.sample_rate // self.mel_hz

    @property
    def n_fft(self) -> int:
        """Samples of a mel frame's window."""
        return 4 * self.hop

    def frames(self, tokens: int) -> int:
        """Mel frames of so many speech tokens: a frame fewer than twice, for some.

        In double precision and in this order, as the model was trained: 29 tokens are 57 frames.
        """
        return int(tokens / self.token_hz * self.mel_hz)


class TokenIds(Struct, frozen=True, kw_only=True):
    """Ids of the language model with a meaning of their own."""

    pad: int = 59_246
    """<|endoftext|>"""
    end: int = 59_253
    """<|user|>: the speech is over."""
    begin: int = 59_260
    """<|begin_of_audio|>"""
    first_audio: int = 61_498
    """<|audio_0|>; speech token n is this plus n."""
    audio_tokens: int = 32_768


class LlmDims(Struct, frozen=True, kw_only=True):
    """The Llama that turns text into speech tokens."""

    hidden: int = 2048
    layers: int = 28
    heads: int = 16
    kv_heads: int = 4
    head_dim: int = 128
    intermediate: int = 6144
    vocab: int = 98_304
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    max_positions: int = 8192


class FlowDims(Struct, frozen=True, kw_only=True):
    """The diffusion transformer that turns speech tokens into mel."""

    width: int = 768
    depth: int = 18
    heads: int = 12
    head_dim: int = 64
    ff_mult: int = 2
    token_width: int = 512
    token_table: int = 100_001
    """Rows of the token embedding."""
    conv_layers: int = 4
    mels: int = 80
    speaker: int = 192
    time_width: int = 256


class HiftDims(Struct, frozen=True, kw_only=True):
    """The vocoder that turns mel into audio at 24 kHz; the rest of its shape is fixed."""

    mels: int = 80
    base: int = 512
    f0_width: int = 512


class SpeechTokenizerDims(Struct, frozen=True, kw_only=True):
    """The encoder that turns a prompt's sound into speech tokens."""

    width: int = 1280
    heads: int = 20
    ff: int = 5120
    layers: int = 16
    """Those that run; a file may hold more."""
    mels: int = 128
    positions: int = 1500
    pooling: int = 2
    codes: int = 32_768
    block: int = 200
    """Frames at 50 Hz that see each other."""


class Dims(Struct, frozen=True, kw_only=True):
    """All of a model."""

    rates: Rates = Rates()
    ids: TokenIds = TokenIds()
    llm: LlmDims = LlmDims()
    flow: FlowDims = FlowDims()
    hift: HiftDims = HiftDims()
    speech_tokenizer: SpeechTokenizerDims = SpeechTokenizerDims()


TRUE = Dims()
"""The published checkpoint's."""

TINY = Dims(
    ids=TokenIds(pad=256, end=257, begin=258, first_audio=260, audio_tokens=48),
    llm=LlmDims(hidden=64, layers=3, heads=4, kv_heads=2, head_dim=16, intermediate=96, vocab=320),
    flow=FlowDims(width=128, depth=2, heads=2, token_width=32, token_table=201),
    hift=HiftDims(base=32, f0_width=32),
    speech_tokenizer=SpeechTokenizerDims(
        width=64, heads=4, ff=128, layers=4, mels=128, positions=1500, codes=48, block=8
    ),
)
"""Small enough for a test; for random weights only."""
