"""From speech tokens to mel, block by block, while the tokens are still being made.

A block is solved together with the prompt, some tokens before it and some beyond it: the window.
What was solved before is pinned: at each step of the solver the frames of the prompt and of the
left context are put back to where they were. So a window costs the same however long the speech.
Each frame keeps its position in the whole speech: without what was left out, the mel comes out
about as close to a solve of everything at once as with it, and 18 dB closer than if moved up.

```
tokens   prompt | ....  left context | block | look-ahead | not made yet
frames   pinned | left out   pinned  |  new  | provisional: the next block fades in over them
```
"""

from __future__ import annotations

import torch
from msgspec import Struct
from torch import Tensor

from engine.config import GlmTtsOptions
from engine.glm_tts.block_mask import block_limits, legacy_block_frames
from engine.glm_tts.dims import Rates
from engine.glm_tts.flow import FlowInput, FlowOutput
from engine.glm_tts.philox import Purpose, normals


class Voice(Struct, frozen=True):
    """A prompt's features on the device."""

    speech_tokens: Tensor
    """int64 [N]."""
    mel: Tensor
    """float32 [P, 80]; P is within a few frames of 2 N."""
    speaker: Tensor
    """float32 [192]."""


class BlockPlan(Struct, frozen=True, kw_only=True):
    """How a stream is cut. All in tokens but the fade."""

    blocks: tuple[int, ...]
    look_ahead: tuple[int, ...]
    left_context: int
    """0: all there is."""
    fade_frames: int
    mask: str

    @classmethod
    def of(cls, options: GlmTtsOptions, rates: Rates) -> BlockPlan:
        return cls(
            blocks=options.block_tokens,
            look_ahead=options.look_ahead_tokens,
            left_context=options.left_context_tokens,
            fade_frames=int(options.fade_s * rates.mel_hz),
            mask=options.flow_mask,
        )

    def block(self, index: int) -> int:
        return self.blocks[min(index, len(self.blocks) - 1)]

    def look(self, index: int) -> int:
        return self.look_ahead[min(index, len(self.look_ahead) - 1)]

    def start(self, done: int) -> int:
        """The first token after the prompt that the window behind `done` tokens holds."""
        return max(0, done - self.left_context) if self.left_context else 0


class _Window(Struct, frozen=True):
    """Which tokens and frames one solve is about. Tokens count from the end of the prompt."""

    start: int
    end: int
    """Tokens before this one are done once it is solved."""
    frames: int
    """All that the window has."""
    is_last: bool


class MelStream:
    """One stretch of speech, from tokens to mel. Worker's loop only.

    Args:
        voice: To speak with.
        plan: How to cut.
        rates: How time is counted.
        seed: Of the noise that the solver starts from.
    """

    # trajectory   float32 [steps, prompt frames + context frames, 80]: where the solver was
    # provisional  float32 [<= fade_frames, 80]: the last window's mel beyond its block
    def __init__(self, voice: Voice, plan: BlockPlan, rates: Rates, seed: int) -> None:
        self._voice = voice
        self._plan = plan
        self._rates = rates
        self._per_token = rates.mel_hz // rates.token_hz
        self._head = self._per_token * len(voice.speech_tokens)
        self._seed = torch.full((1,), seed, dtype=torch.int64, device=voice.mel.device)
        self._index = 0
        self._done = 0
        self._given = len(voice.mel)
        self._trajectory: Tensor | None = None
        self._provisional = voice.mel[:0]
        self._window: _Window | None = None

    def wanted(self) -> int:
        """Tokens that the next block needs to have before it can be solved."""
        return self._done + self._plan.block(self._index) + self._plan.look(self._index)

    def window_frames(self, tokens: int) -> int:
        """How many the next window has, with so many tokens since the prompt; within a few."""
        return self._head + self._per_token * (tokens - self._plan.start(self._done))

    def window(self, tokens: Tensor, *, is_last: bool) -> FlowInput:
        """What the flow has to solve next.

        Args:
            tokens: int64 [n], all since the prompt: `wanted` of them, or all that come.
            is_last: No more will come.
        """
        plan, per_token, prompt = self._plan, self._per_token, self._voice.speech_tokens
        start = plan.start(self._done)
        end = len(tokens) if is_last else self._done + plan.block(self._index)
        seen = len(prompt) + len(tokens)
        whole = self._rates.frames(seen) if is_last else per_token * seen
        window = _Window(start, end, whole - per_token * start, is_last)
        self._window = window
        frames = self._frames_of(window)
        return FlowInput(
            tokens=torch.cat((prompt, tokens[start:])),
            condition=self._voice.mel if start == 0 else self._voice.mel[: self._head],
            speaker=self._voice.speaker,
            noise=normals(self._seed, Purpose.MEL, frames[None], self._voice.mel.shape[1])[0],
            pinned=self._trajectory,
            limits=self._limits(window, frames, whole),
            places=frames,
        )

    def accept(self, solved: FlowOutput) -> Tensor:
        """Take the solution of the window asked for last.

        Returns:
            float32 [F, 80], the mel that follows what was returned before.
        """
        window, per_token = self._window, self._per_token
        assert window is not None, "no window was asked for"
        behind = per_token * window.start
        first = self._given - behind
        last = window.frames
        if not window.is_last:
            last = max(first, self._head + per_token * window.end - behind)
        mel = self._faded(solved.mel[first:last])
        self._provisional = solved.mel[last : last + self._plan.fade_frames]
        self._given = last + behind
        self._done = window.end
        self._index += 1
        kept = self._head + per_token * (self._plan.start(self._done) - window.start)
        path = solved.trajectory
        self._trajectory = torch.cat((path[:, : self._head], path[:, kept:last]), 1)
        return mel

    def _frames_of(self, window: _Window) -> Tensor:
        """The window's frames by their place in the whole, int64 [frames]."""
        frames = torch.arange(window.frames, device=self._voice.mel.device)
        return torch.where(frames < self._head, frames, frames + self._per_token * window.start)

    def _faded(self, mel: Tensor) -> Tensor:
        count = min(len(self._provisional), len(mel))
        if count == 0:
            return mel
        weight = torch.linspace(0, 1, count + 2, device=mel.device)[1:-1, None]
        return torch.cat((torch.lerp(self._provisional[:count], mel[:count], weight), mel[count:]))

    def _limits(self, window: _Window, frames: Tensor, whole: int) -> Tensor | None:
        """Before which column of the window each of its frames looks, int64 [frames]."""
        if self._plan.mask == "none":
            return None
        tokens = (len(self._voice.speech_tokens), *self._plan.blocks)
        if self._plan.mask == "blocks":
            sizes = [self._per_token * count for count in tokens]
        else:
            sizes = [legacy_block_frames(count) for count in tokens]
        limits = block_limits(sizes, whole).to(frames.device)[frames]
        moved = (limits - self._per_token * window.start).clamp(min=self._head)
        return torch.where(limits > self._head, moved, limits)
