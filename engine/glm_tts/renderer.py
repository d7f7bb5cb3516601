"""Blocks of tokens to audio, on the device beside the language model's steps.

All that a render reads and writes is made in a lane of its own, so that neither waits for the
other: the language model reads memory, the flow multiplies.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from msgspec import Struct
from torch import Tensor

from engine.glm_tts.flow import FlowInput, Solving
from engine.glm_tts.job import GlmTtsJob, Piece
from engine.glm_tts.lanes import Lane
from engine.glm_tts.model import Model
from engine.glm_tts.model_memory import GraphRoom, on_host
from engine.glm_tts.presets import Preset
from engine.glm_tts.stream import MelStream
from engine.glm_tts.vocoder import VocoderState

_STREAM_BUCKETS = (1, 2, 4, 8)
"""Streams that the vocoder is recorded for."""


class Block(Struct):
    """What is rendered of one job."""

    job: GlmTtsJob
    piece: Piece
    """That the block is of; the job may have gone on to the next."""
    is_last: bool
    """Of its piece."""
    progress: float
    """Of the job, once the audio has been played."""
    window: FlowInput
    before: tuple[MelStream, VocoderState]
    """The piece's states, without the block."""
    audio: Tensor
    """float32 [samples] on the host, there when the flight is over."""


class Flight(Struct, frozen=True):
    """A render that the device works on."""

    blocks: list[Block]
    solves: list[tuple[Preset, list[Block], Solving]]
    """Those of like presets together."""
    landed: torch.cuda.Event | None
    """None: the host has waited for it."""

    def is_over(self) -> bool:
        return self.landed is None or bool(self.landed.query())  # type: ignore[no-untyped-call]


class Renderer:
    """Worker's loop only.

    Flow and vocoder are recorded for its lane, where there is a GPU: no tensor of theirs may move
    any more.

    Args:
        model: Whose flow and vocoder these are.
        lane: Whatever is made for a render is made in it.
        source: The lane that jobs and their pieces are made in.
        room: Where the recordings take their memory from.
        windows: Mel frames that the vocoder is given at once.
        frames: That the flow is given at once, of all blocks; more are slow.
    """

    def __init__(
        self,
        model: Model,
        lane: Lane,
        source: Lane,
        room: GraphRoom,
        windows: Sequence[int],
        frames: int,
    ) -> None:
        self._lane = lane
        self._source = source
        self.flow = model.flow.recorded(room, frames)
        self.vocoder = model.vocoder.recorded(windows, _STREAM_BUCKETS, room)
        self._device = model.device

    def launch(self, jobs: Sequence[GlmTtsJob]) -> Flight:
        """Begin to render the block that each job has."""
        self._lane.follow(self._source)
        with self._lane.use():
            blocks = [self._block(job) for job in jobs]
            solves = [self._solve(preset, blocks) for preset in {job.preset for job in jobs}]
            mels = {
                block.job.id: block.piece.mel.accept(solution)
                for _, alike, solving in solves
                for block, solution in zip(alike, solving.outputs, strict=True)
            }
            sounds = self._vocode(blocks, [mels[block.job.id] for block in blocks])
            for block, sound in zip(blocks, sounds, strict=True):
                block.audio = on_host(sound)
        return Flight(blocks, solves, self._lane.mark())

    def settle(self, flight: Flight) -> None:
        """Render again what has become no numbers; when the flight is over. The host waits."""
        for preset, alike, solving in flight.solves:
            if not (broken := [alike[place] for place in solving.broken()]):
                continue
            for block in broken:
                block.piece.mel, block.piece.sound = block.before
            with self._lane.use():
                solved = self.flow.mend(
                    [block.window for block in broken],
                    steps=preset.flow_steps,
                    cfg_rate=preset.cfg_rate,
                )
                accepted = [
                    block.piece.mel.accept(solution)
                    for block, solution in zip(broken, solved, strict=True)
                ]
                for block, sound in zip(broken, self._vocode(broken, accepted), strict=True):
                    block.audio = sound.cpu()

    def _block(self, job: GlmTtsJob) -> Block:
        piece = job.current
        is_last = piece.is_last
        window = piece.mel.window(piece.block_tokens(self._device), is_last=is_last)
        return Block(
            job=job,
            piece=piece,
            is_last=is_last,
            progress=job.progress,
            window=window,
            before=(copy.copy(piece.mel), copy.copy(piece.sound)),
            audio=torch.empty(0),
        )

    def _solve(
        self, preset: Preset, blocks: Sequence[Block]
    ) -> tuple[Preset, list[Block], Solving]:
        alike = [block for block in blocks if block.job.preset == preset]
        windows = [block.window for block in alike]
        solving = self.flow.launch(windows, steps=preset.flow_steps, cfg_rate=preset.cfg_rate)
        return preset, alike, solving

    def _vocode(self, blocks: Sequence[Block], mels: Sequence[Tensor]) -> list[Tensor]:
        return self.vocoder.vocode(
            mels,
            [block.piece.sound for block in blocks],
            [block.is_last for block in blocks],
        )
