"""Launching the sampler's kernels."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from engine.glm_tts import sampling_kernels
from engine.glm_tts.sampling import K_MAX
from engine.glm_tts.slot_states import WINDOW_MAX, SlotStates
from engine.glm_tts.tuning import Tuning


class CudaSampler:
    """Draws as `sampling.sample` does. Its tensors stay where they are, for graphs.

    Attributes:
        scores: [rows, stride] float32, to be filled; the end's column is the last that counts.
        tokens: [rows] int64, what was drawn.
    """

    def __init__(
        self, states: SlotStates, rows: int, stride: int, end: int, tuning: Tuning
    ) -> None:
        device = states.seeds.device
        self._states = states
        self._tuning = tuning
        self._end = end
        self._chunks = chunks = -(-(end + 1) // tuning.chunk)
        self.scores = torch.zeros(rows, stride, device=device)
        self.tokens = torch.zeros(rows, dtype=torch.int64, device=device)

        def reserve(*shape: int) -> tuple[Tensor, Tensor]:
            """Of scores, and of ids."""
            numbers = torch.zeros(rows, *shape, device=device)
            return numbers, torch.zeros_like(numbers, dtype=torch.int32)

        # What one kernel leaves for the other: candidates, peak and mass, winner of the race.
        softmax = (reserve(chunks)[0], reserve(chunks)[0])
        self._parts = (*reserve(chunks, K_MAX), *softmax, *reserve(chunks))
        self._best = reserve(K_MAX)

    def launch(self, rows: int, slots: Tensor) -> None:
        """Draw a token from each of the first rows of `scores`, and remember it for its slot."""
        states, params, tuning = self._states, self._states.params, self._tuning
        size = (self._end + 1, self.scores.shape[1], self._end)
        sampling_kernels.shortlist[(rows, self._chunks)](
            self.scores, slots, params.temperature, states.seeds, states.drawn,
            states.min_tokens, *self._parts, *size,
            CHUNKS=self._chunks, CHUNK=tuning.chunk, KEPT=K_MAX, **tuning.options(rows, 8, 1),
        )  # fmt: skip
        sampling_kernels.draw[(rows,)](
            self.scores, slots, params.temperature, params.top_p, params.top_k, params.window,
            params.tau, params.is_ras, states.seeds, states.drawn, states.min_tokens,
            states.history, *self._parts, *self._best, self.tokens, *size,
            CHUNKS=self._chunks, CHUNKS_BLOCK=triton.next_power_of_2(self._chunks), KEPT=K_MAX,
            WINDOW=WINDOW_MAX, **tuning.options(rows, 8, 1),
        )  # fmt: skip
