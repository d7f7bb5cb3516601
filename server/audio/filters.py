"""A chain of FFmpeg's audio filters that ends in mono float32 PCM."""

from __future__ import annotations

from typing import cast

import av
import numpy as np
from av.audio import AudioFrame
from av.filter import Graph

from engine.types import Samples

EMPTY: Samples = np.zeros(0, np.float32)


class FilterChain:
    """Frames of one kind go in, what the filters have ready comes out. One thread at a time.

    Args:
        sample_rate: Hz, of the frames to come.
        sample_format: Theirs, as FFmpeg names it.
        layout: Theirs, as FFmpeg names it.
        filters: (name, arguments) in FFmpeg's notation; what they give must be mono "flt".
    Raises:
        av.FFmpegError: no such chain can be built; also from `push` and `finish`.
    """

    def __init__(
        self, sample_rate: int, sample_format: str, layout: str, filters: list[tuple[str, str]]
    ) -> None:
        graph = Graph()
        graph.threads = 1  # else each chain starts a thread a CPU, and uses none of them
        self._source = graph.add(
            "abuffer",
            sample_rate=str(sample_rate),
            sample_fmt=sample_format,
            channel_layout=layout,
            time_base=f"1/{sample_rate}",
        )
        steps = [graph.add(name, arguments) for name, arguments in filters]
        self._sink = graph.add("abuffersink")
        graph.link_nodes(self._source, *steps, self._sink)
        graph.configure()
        self._graph = graph  # the filters hold it by a weak reference

    def push(self, frame: AudioFrame) -> Samples:
        """What is ready after this frame; maybe nothing."""
        self._source.push(frame)
        return self._pull()

    def finish(self) -> Samples:
        """The rest. Called once, at the end."""
        self._source.push(None)
        return self._pull()

    def _pull(self) -> Samples:
        ready: list[Samples] = []
        while True:
            try:
                frame = cast("AudioFrame", self._sink.pull())
            except (av.BlockingIOError, av.EOFError):
                break
            ready.append(cast("Samples", frame.to_ndarray()[0]))
        return ready[0] if len(ready) == 1 else np.concatenate([EMPTY, *ready])
