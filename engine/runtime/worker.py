"""A worker process: `python -m engine.runtime.worker --fd N --config JSON`.

The main thread loads the engine and runs its loop. A second thread reads the socket: a cancel must
reach a step while it runs, and when the server is gone the process ends whatever the engine does. A
third one says every second what the loop is at, so that the server can tell when it hangs.
"""

from __future__ import annotations

import argparse
import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Protocol, cast

import msgspec

from engine import registry
from engine.config import WorkerConfig
from engine.errors import EngineBroken, EngineError, LoadFailed, to_wire
from engine.features import FeatureStore
from engine.protocol import Synthesizer, Transcriber
from engine.runtime.capacity import Capacity
from engine.runtime.heartbeat import Pulse
from engine.runtime.listening import ListenLoop
from engine.runtime.log import log_as_parent_does
from engine.runtime.loop import SpeechLoop
from engine.runtime.placement import Placement
from engine.runtime.tally import Tally
from engine.runtime.wire import (
    Broken,
    Command,
    Event,
    Failed,
    FrameDecoder,
    Offload,
    Placing,
    Prepare,
    Ready,
    encode_frame,
)
from engine.types import (
    Device,
    EngineInfo,
    Samples,
    Segment,
    TranscribeOptions,
    TranscriptInfo,
)

logger = logging.getLogger(__name__)

# All that a socket holds: an engine that holds the GIL lets the reader in but now and then.
_READ_BYTES = 1 << 18


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="python -m engine.runtime.worker")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--max-load", type=float, default=0.0)
    parser.add_argument("--beat-s", type=float, default=1.0)
    parser.add_argument("--log-level", default="INFO")
    args = parser.parse_args()
    log_as_parent_does(args.log_level)
    # The server decides when a worker ends: it drains first. Both signals reach the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    config = msgspec.json.decode(args.config, type=WorkerConfig)
    with socket.socket(fileno=args.fd) as sock:
        run(config, sock, args.max_load, args.beat_s)
        sys.stderr.flush()
        # Nothing is left to tidy up, and a device that is broken may never let go of its libraries.
        os._exit(0)


class Outlet:
    """Sends events: the loop's, and beside them the heartbeat.

    Args:
        sock: To the server.
        pulse: Of the loop.
    """

    def __init__(self, sock: socket.socket, pulse: Pulse) -> None:
        self.pulse = pulse
        self._sock = sock
        self._lock = threading.Lock()

    def send(self, event: Event) -> None:
        """Say what the loop did. The loop's thread.

        Raises:
            ConnectionError: the server is gone.
            EngineBroken: this was the failure of a job of an engine that will never work again.
        """
        self._write(event)
        self.pulse.advance()
        if isinstance(event, Failed) and event.error.kind == EngineBroken.__name__:
            raise EngineBroken(event.error.message)

    def beat(self) -> None:
        """Say what the loop is at. Any thread.

        Raises:
            ConnectionError: the server is gone.
        """
        self._write(self.pulse.beat)

    def keep_beating(self, every_s: float) -> None:
        """Say it again and again; ends the process once the server is gone. A thread of its own."""
        pause = threading.Event()
        try:
            while True:
                self.beat()
                pause.wait(every_s)
        except ConnectionError as exc:
            logger.warning("event=server_lost reason=%s", exc)
        os._exit(0)

    def _write(self, event: Event) -> None:
        frame = encode_frame(event)
        with self._lock:
            self._sock.sendall(frame)


class Listener:
    """A transcriber whose waits for sound are not taken for work."""

    def __init__(self, engine: Transcriber, pulse: Pulse) -> None:
        self._engine = engine
        self._pulse = pulse

    def transcribe(
        self, audio: Iterator[Samples], options: TranscribeOptions
    ) -> tuple[TranscriptInfo, Iterator[Segment]]:
        return self._engine.transcribe(self._pulse.waits(audio), options)

    def load(self, device: Device) -> EngineInfo:
        return self._engine.load(device)


def run(config: WorkerConfig, sock: socket.socket, max_load: float, beat_s: float) -> None:
    """Load the engine, say so, and serve jobs until the server hangs up or the engine breaks.

    Args:
        config: Which engine.
        sock: To the server.
        max_load: See PoolConfig.
        beat_s: Between two heartbeats.
    """
    pulse = Pulse()
    tally = Tally()
    outlet = Outlet(sock, pulse)
    send = outlet.send
    threading.Thread(target=outlet.keep_beating, args=(beat_s,), daemon=True).start()
    try:
        engine = registry.create(config)
        info = engine.load(config.device)
    except EngineError as exc:
        send(Broken(to_wire(LoadFailed(str(exc)))))
        return
    except Exception as exc:
        logger.exception("event=load_failed engine=%s", config.engine)
        send(Broken(to_wire(LoadFailed(f"{config.engine} could not load: {exc!r}"))))
        return
    if info.task == "speech":
        loop = _speech_loop(config, cast("Synthesizer", engine), info, outlet, max_load, tally)
    else:
        loop = ListenLoop(Listener(cast("Transcriber", engine), pulse), send)
    inbox: queue.SimpleQueue[Command] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sock, loop, inbox), daemon=True).start()
    placement = Placement(engine, config.device, send, tally)
    memory = placement.memory()
    if not info.is_embedded and memory is not None and memory.device == "cpu":
        pulse.pace = "long"
    try:
        # First: from then on it is idle, not loading.
        pulse.idle()
        outlet.beat()
        send(Ready(info, placement.can_offload, memory))
        serve(loop, placement, inbox, outlet)
    except ConnectionError as exc:
        logger.warning("event=server_lost reason=%s", exc)
    except LoadFailed:
        # The server knows, and starts another.
        return
    except EngineBroken as exc:
        logger.error("event=engine_broken engine=%s reason=%s", config.engine, exc)  # noqa: TRY400
        send(Broken(to_wire(exc)))


def _speech_loop(
    config: WorkerConfig,
    engine: Synthesizer,
    info: EngineInfo,
    outlet: Outlet,
    max_load: float,
    tally: Tally,
) -> Loop:
    features = FeatureStore.of_worker(config, info) if info.clones_voices else None
    capacity = Capacity(max_load) if max_load and info.refuses_overload else None
    return SpeechLoop(
        engine, info.sample_rate, outlet.send, features, capacity, outlet.pulse, tally
    )


class Loop(Protocol):
    """What a worker runs around its engine."""

    def notice(self, command: Command) -> bool: ...
    def apply(self, command: Command) -> None: ...
    def turn(self) -> bool: ...

    @property
    def nap_s(self) -> float | None: ...


def serve(
    loop: Loop, placement: Placement, inbox: queue.SimpleQueue[Command], outlet: Outlet
) -> None:
    """Commands first, then a step; wait for a command when there is nothing to do."""
    pulse = outlet.pulse

    def turn() -> bool:
        with pulse.inside(pulse.pace):
            return loop.turn()

    def take_long(command: Placing | Prepare) -> None:
        # The server hears at once of both ends: what seizes the GIL meanwhile lets no beat out.
        with pulse.inside("long"):
            outlet.beat()
            if isinstance(command, Placing):
                placement.apply(command)
            else:
                loop.apply(command)
        outlet.beat()

    has_work = False
    while True:
        try:
            while True:
                command = inbox.get(block=not has_work, timeout=loop.nap_s)
                if isinstance(command, Offload):
                    # What is left in hand was cancelled, and is put down in a turn.
                    while turn():
                        pass
                if isinstance(command, Placing | Prepare):
                    take_long(command)
                else:
                    with pulse.inside(pulse.pace):
                        loop.apply(command)
                has_work = True
        except queue.Empty:
            has_work = turn()


def _read(sock: socket.socket, loop: Loop, inbox: queue.SimpleQueue[Command]) -> None:
    decoder: FrameDecoder[Command] = FrameDecoder(Command)  # type: ignore[arg-type]
    try:
        while data := sock.recv(_READ_BYTES):
            for command in decoder.feed(data):
                if isinstance(command, Placing) or not loop.notice(command):
                    inbox.put(command)
    except ConnectionError as exc:
        logger.warning("event=server_lost reason=%s", exc)
    os._exit(0)


if __name__ == "__main__":
    main()
