"""A worker process: `python -m engine.runtime.worker --fd N --config JSON`.

The main thread loads the engine and runs its loop. A second thread reads the socket: a cancel must
reach a step while it runs, and when the server is gone the process ends whatever the engine does.
"""

from __future__ import annotations

import argparse
import logging
import os
import queue
import signal
import socket
import threading
from typing import Protocol, cast

import msgspec

from engine import registry
from engine.config import WorkerConfig
from engine.errors import EngineError, LoadFailed, to_wire
from engine.features import FeatureStore
from engine.protocol import Synthesizer, Transcriber
from engine.runtime.capacity import Capacity
from engine.runtime.listening import ListenLoop
from engine.runtime.loop import SpeechLoop
from engine.runtime.placement import Placement
from engine.runtime.wire import (
    Broken,
    Command,
    Event,
    FrameDecoder,
    Offload,
    Placing,
    Ready,
    encode_frame,
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
    parser.add_argument("--log-level", default="INFO")
    args = parser.parse_args()
    logging.basicConfig(
        level=args.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    # The server decides when a worker ends: it drains first. Both signals reach the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    config = msgspec.json.decode(args.config, type=WorkerConfig)
    with socket.socket(fileno=args.fd) as sock:
        run(config, sock, args.max_load)


def run(config: WorkerConfig, sock: socket.socket, max_load: float = 0.0) -> None:
    """Load the engine, say so, and serve jobs until the server hangs up.

    Args:
        config: Which engine.
        sock: To the server.
        max_load: See PoolConfig.
    """

    def send(event: Event) -> None:
        sock.sendall(encode_frame(event))

    try:
        engine = registry.create(config)
        info = engine.load(config.device)
    except EngineError as exc:
        send(Broken(to_wire(exc)))
        return
    except Exception as exc:
        logger.exception("event=load_failed engine=%s", config.engine)
        send(Broken(to_wire(LoadFailed(f"{config.engine} could not load: {exc!r}"))))
        return
    loop: Loop
    if info.task == "speech":
        features = FeatureStore.of_worker(config, info) if info.clones_voices else None
        speaker = cast("Synthesizer", engine)
        capacity = Capacity(max_load) if max_load and info.refuses_overload else None
        loop = SpeechLoop(speaker, info.sample_rate, send, features, capacity)
    else:
        loop = ListenLoop(cast("Transcriber", engine), send)
    inbox: queue.SimpleQueue[Command] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sock, loop, inbox), daemon=True).start()
    placement = Placement(engine, config.device, send)
    try:
        send(Ready(info, placement.can_offload, placement.memory()))
        serve(loop, placement, inbox)
    except ConnectionError as exc:
        logger.warning("event=server_lost reason=%s", exc)
    except LoadFailed:
        # The server knows, and starts another.
        return


class Loop(Protocol):
    """What a worker runs around its engine."""

    def notice(self, command: Command) -> bool: ...
    def apply(self, command: Command) -> None: ...
    def turn(self) -> bool: ...


def serve(loop: Loop, placement: Placement, inbox: queue.SimpleQueue[Command]) -> None:
    """Commands first, then a step; wait for a command when there is nothing to do."""
    has_work = False
    while True:
        try:
            while True:
                command = inbox.get(block=not has_work)
                if isinstance(command, Offload):
                    # What is left in hand was cancelled, and is put down in a turn.
                    while loop.turn():
                        pass
                if isinstance(command, Placing):
                    placement.apply(command)
                else:
                    loop.apply(command)
                has_work = True
        except queue.Empty:
            has_work = loop.turn()


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
