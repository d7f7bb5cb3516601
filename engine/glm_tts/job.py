"""One request on its way through the model. Worker's loop only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.glm_tts.decoder import DecodeParams
from engine.glm_tts.guards import SilenceRun
from engine.glm_tts.history import History
from engine.glm_tts.presets import Preset
from engine.glm_tts.stream import MelStream, Voice
from engine.glm_tts.vocoder import VocoderState
from engine.types import Job


class Piece:
    """A stretch of the text, spoken in one go: its tokens, its mel and its sound.

    Attributes:
        text_ids: What is spoken.
        params: How its tokens are drawn.
        tokens: Speech tokens so far.
        has_ended: No token will follow.
        mel: Tokens to mel.
        sound: The vocoder's state.
        silence: How long it has been silent.
    """

    def __init__(
        self,
        text_ids: Sequence[int],
        params: DecodeParams,
        mel: MelStream,
        sound: VocoderState,
        silence: SilenceRun,
    ) -> None:
        self.text_ids = text_ids
        self.params = params
        self.tokens: list[int] = []
        self.has_ended = False
        self.mel = mel
        self.sound = sound
        self.silence = silence

    def take(self, tokens: Sequence[int], end: int) -> None:
        """Add tokens up to the end of the speech, or to as many as it may have."""
        for token in tokens:
            if self.has_ended:
                return
            if token != end:
                self.tokens.append(token)
            self.has_ended = token == end or self.is_full

    @property
    def lacking(self) -> int:
        """Tokens to the end of its next block."""
        return min(self.mel.wanted(), self.params.max_tokens) - len(self.tokens)

    @property
    def is_full(self) -> bool:
        """It has as many tokens as its text can need."""
        return len(self.tokens) >= self.params.max_tokens

    @property
    def has_block(self) -> bool:
        """There is something to render."""
        return self.has_ended or len(self.tokens) >= self.mel.wanted()

    @property
    def frames(self) -> int:
        """That its next block's window has; within a few."""
        return self.mel.window_frames(len(self.tokens))

    def on(self, device: torch.device) -> Tensor:
        """Its speech tokens, int64 [n]."""
        return torch.tensor(self.tokens, dtype=torch.int64).to(device, non_blocking=True)


class GlmTtsJob(Job):
    """Stages: "admit" (waits for a slot), "prefill", "decode", "first" and "render" (its block
    waits for the device), "land" (waits for audio).

    Attributes:
        texts: Ids of the pieces that were not begun yet.
        piece: The one that is spoken.
        slot: Its place in the decoder.
        is_silent: None of its audio was begun.
        is_finished: Nobody wants to hear of it any more.
    """

    def __init__(
        self,
        job_id: int,
        texts: list[list[int]],
        voice: Voice,
        history: History,
        preset: Preset,
        seed: int,
    ) -> None:
        super().__init__(job_id, "admit")
        self.texts = texts
        self.voice = voice
        self.history = history
        self.preset = preset
        self.piece: Piece | None = None
        self.slot: int | None = None
        self.is_silent = True
        self.is_finished = False
        self._seed = seed
        self._pieces = len(texts)
        self._text_ids = sum(map(len, texts))

    @property
    def current(self) -> Piece:
        assert self.piece is not None, "no piece was begun"
        return self.piece

    @property
    def progress(self) -> float:
        """The share of the text ids in pieces that have ended: of others, nobody can tell."""
        waiting = sum(map(len, self.texts))
        spoken_now = 0 if self.current.has_ended else len(self.current.text_ids)
        return 1 - (waiting + spoken_now) / self._text_ids

    def next_seed(self) -> int:
        """Of the next piece: pieces share no noise. Below 2**63."""
        return self._seed + (self._pieces - len(self.texts) << 32)
