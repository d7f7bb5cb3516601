"""How far ahead a frame sees when speech is solved block by block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_SHORT_FRAMES = 172
"""Up to this size a block looks ahead by a half of itself; a longer one by two thirds."""


def block_limits(sizes: Sequence[int], frames: int) -> Tensor:
    """The first column that each frame does not see.

    A frame sees all of the past and of its own block, and beyond it as far as it takes to see so
    many frames ahead of itself: a half or two thirds of the block's size.

    Args:
        sizes: Of the blocks, in frames, each at least 1; the last one repeats for ever.
        frames: How many there are.
    Returns:
        int64 [frames], on the CPU.
    """
    repeats = max(0, -(-(frames - sum(sizes)) // sizes[-1]))
    blocks = torch.tensor([*sizes, *[sizes[-1]] * repeats])
    ahead = torch.where(blocks <= _SHORT_FRAMES, blocks // 2, 2 * blocks // 3)
    of_frame = torch.repeat_interleave(blocks)[:frames]
    ends = blocks.cumsum(0)[of_frame]
    seen_ahead = torch.arange(1, frames + 1) + ahead[of_frame]
    return torch.maximum(ends, seen_ahead).clamp(max=frames)


def legacy_block_frames(tokens: int) -> int:
    """Frames of a block as the model before this one counted: 12.5 tokens, 22050 / 256 frames/s."""
    return int(tokens / 12.5 * 22050 / 256)
