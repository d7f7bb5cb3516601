"""One request on its way through the model. Worker's loop only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import torch
from msgspec import Struct
from torch import Tensor

from engine.glm_tts.decoder import DecodeParams
from engine.glm_tts.guards import SilenceRun
from engine.glm_tts.history import History
from engine.glm_tts.presets import Preset
from engine.glm_tts.stream import MelStream, Voice
from engine.glm_tts.vocoder import VocoderState
from engine.types import Job


class Text(Struct, frozen=True):
    """What a piece says."""

    ids: list[int]
    before: float
    """The share of the whole text that is before it: so much or more."""


class Piece:
    """A stretch of the text, spoken in one go: its tokens, its mel and its sound.

    Attributes:
        text: What is spoken.
        prompt_tokens: That the language model reads first: the text's are among them.
        params: How its tokens are drawn.
        tokens: Speech tokens so far.
        has_ended: No token will follow.
        mel: Tokens to mel.
        sound: The vocoder's state.
        silence: How long it has been silent.
    """

    def __init__(
        self,
        text: Text,
        prompt_tokens: int,
        params: DecodeParams,
        mel: MelStream,
        sound: VocoderState,
        silence: SilenceRun,
    ) -> None:
        self.text = text
        self.prompt_tokens = prompt_tokens
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
        return self.mel.window_frames(min(len(self.tokens), self.mel.wanted()))

    @property
    def is_last(self) -> bool:
        """Its next block is the last. The same whether or not more tokens are there by now."""
        return self.has_ended and len(self.tokens) < self.mel.wanted()

    def block_tokens(self, device: torch.device) -> Tensor:
        """Those that its next block is made of, from the first of all on, int64 [n]."""
        tokens = self.tokens[: self.mel.wanted()]
        return torch.tensor(tokens, dtype=torch.int64).to(device, non_blocking=True)


class GlmTtsJob(Job):
    """Stages: "admit" (waits for a slot), "prefill", "decode", "first" and "render" (its block
    waits for the device), "land" (waits for audio).

    Attributes:
        piece: The one that is spoken.
        slot: Its place in the decoder.
        is_silent: None of its audio was begun.
        is_heard: Some of its audio was given.
        is_spoken: The last of its blocks was begun.
        is_finished: Nobody wants to hear of it any more.
    """

    def __init__(
        self,
        job_id: int,
        texts: Iterator[Text],
        voice: Voice,
        history: History,
        preset: Preset,
        seed: int,
    ) -> None:
        super().__init__(job_id, "admit")
        self.voice = voice
        self.history = history
        self.preset = preset
        self.piece: Piece | None = None
        self.slot: int | None = None
        self.is_silent = True
        self.is_heard = False
        self.is_spoken = False
        self.is_finished = False
        self._texts = texts
        self._next: Text | None = None
        self._seed = seed
        self._begun = 0

    @property
    def is_joining(self) -> bool:
        return self.stage in ("admit", "prefill")

    @property
    def aside(self) -> str | None:
        """Tokens of later blocks cost next to nothing in a step that others need."""
        is_waiting = self.stage in ("first", "render", "land") and self.slot is not None
        return "decode" if is_waiting and not self.current.has_ended else None

    @property
    def current(self) -> Piece:
        assert self.piece is not None, "no piece was begun"
        return self.piece

    @property
    def next_text(self) -> Text | None:
        """Of the piece to begin next; read when it is first asked for. None: there is no more."""
        if self._next is None:
            self._next = next(self._texts, None)
        return self._next

    def halve_next(self) -> None:
        """Make two pieces of the next text, which has more than one token."""
        assert self._next is not None
        ids, before = self._next.ids, self._next.before
        first, second = ids[: len(ids) // 2], ids[len(ids) // 2 :]
        self._next = Text(first, before)
        self._texts = chain([Text(second, before)], self._texts)

    def begin(self, piece: Piece, slot: int) -> None:
        """Speak the next text."""
        self.piece, self.slot, self.stage = piece, slot, "prefill"
        self._next = None
        self._begun += 1

    @property
    def progress(self) -> float:
        """The share of the text in pieces that have ended: of others, nobody can tell."""
        if not self.current.is_last:
            return self.current.text.before
        return 1.0 if self.next_text is None else self.next_text.before

    def next_seed(self) -> int:
        """Of the next piece: pieces share no noise. Below 2**63."""
        return self._seed + (self._begun << 32)
