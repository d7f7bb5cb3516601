"""Random numbers by position: a value depends on its place and on nothing drawn before it.

So a job repeats whatever else is in its batch, a frame has the same noise however the clip is cut
into blocks, and no generator's state has to be kept. Philox4x32-10: Salmon et al., "Parallel
random numbers: as easy as 1, 2, 3" (SC 2011). Any thread; all on the device of `seeds`.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_WORD = 0xFFFFFFFF


class Purpose(IntEnum):
    """What numbers are for: those of one purpose are independent of another's."""

    NUCLEUS = 1
    """Sampler, first draw: row = step, column = rank."""
    FULL = 2
    """Sampler, second draw: row = step, column = id."""
    MEL = 3
    """The flow's start: row = frame of the clip, prompt included; column = bin."""
    SOURCE = 4
    """The vocoder's source: row = frame of the clip, column = sample of it."""


def normals(seeds: Tensor, purpose: Purpose, rows: Tensor, columns: int) -> Tensor:
    """Standard normal numbers.

    Args:
        seeds: [B] int64.
        purpose: Keeps them apart from others of the same seed.
        rows: [B, R] int64, each at least 0 and below 2**32.
        columns: How many for each row.
    Returns:
        [B, R, columns] float32.
    """
    if _is_fused(seeds):
        from engine.glm_tts.philox_kernels import draw

        return draw(seeds, purpose, rows, columns, is_normal=True)
    uniforms = _uniforms(seeds, purpose, rows, columns)
    first, second = uniforms[..., 0::2], uniforms[..., 1::2]
    radius = torch.sqrt(-2 * torch.log(first))
    angle = 2 * math.pi * second
    pairs = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), -1)
    return pairs.flatten(-2)[..., :columns]


def exponentials(seeds: Tensor, purpose: Purpose, rows: Tensor, columns: int) -> Tensor:
    """Numbers of the exponential distribution with mean 1; see `normals`.

    Returns:
        [B, R, columns] float32, above 0.
    """
    if _is_fused(seeds):
        from engine.glm_tts.philox_kernels import draw

        return draw(seeds, purpose, rows, columns, is_normal=False)
    return -torch.log(_uniforms(seeds, purpose, rows, columns)[..., :columns])


def _is_fused(seeds: Tensor) -> bool:
    """One kernel does it, with the same numbers but for the last bits of their functions."""
    return seeds.is_cuda and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _uniforms(seeds: Tensor, purpose: Purpose, rows: Tensor, columns: int) -> Tensor:
    """In (0, 1), [B, R, columns rounded up to 4] float32."""
    blocks = torch.arange(-(-columns // 4), device=rows.device)
    low, high = seeds & _WORD, (seeds >> 32) & _WORD
    shape = (*rows.shape, len(blocks))
    counter = (
        blocks.expand(shape),
        rows[..., None].expand(shape),
        high[:, None, None].expand(shape),
        torch.zeros((), dtype=torch.int64, device=rows.device).expand(shape),
    )
    words = torch.stack(_philox(counter, (low[:, None, None], purpose)), -1).flatten(-2)
    # 23 bits and a half: never 0 and never 1, whatever the rounding.
    return ((words >> 9).to(torch.float32) + 0.5) * 2.0**-23


def _philox(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Words of 32 bits, held in int64."""
    a, b, c, d = counter
    k0: Tensor = key[0]
    k1: int = key[1]
    for _ in range(_ROUNDS):
        # A product of two words fills 64 bits: the sign is one of them, hence the masks.
        left, right = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (
            ((right >> 32) & _WORD) ^ b ^ k0,
            right & _WORD,
            ((left >> 32) & _WORD) ^ d ^ k1,
            left & _WORD,
        )
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return a, b, c, d
