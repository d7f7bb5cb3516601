"""What `rhapsode bench load` does, and to which server."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args
from urllib.parse import urlsplit

from msgspec import Struct

from server.bench.host import own_server
from server.bench.load_client import Target
from server.bench.load_figures import Bounds
from server.bench.measure import Address, BenchError

READY_S = 60.0
TEXT = "The harbour was quiet, and a single lamp burned above the door. Far out a bell rang twice."
"""About five seconds of speech."""
_SPARE_DESCRIPTORS = 100

Scenario = Literal["rates", "clients", "crowd", "leavers", "soak"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)


class LoadPlan(Struct, frozen=True, kw_only=True):
    """What to do."""

    scenario: Scenario = "rates"
    url: str | None = None
    """Of a server that runs; None: one of its own, with the settings' defaults."""
    pid: int | None = None
    """Of the server behind `url`, if it is on this host: for its memory."""
    engine: str = "espeak-ng"
    """That speaks, in a server of its own."""
    model: str = "tts-1"
    """To ask for."""
    voice: str = "alloy"
    text: str = TEXT
    transcription_share: float = 0.0
    """Of the requests, those that have a sentence of the server's own written down."""
    rates: tuple[float, ...] = (2.0, 5.0, 10.0, 20.0, 40.0)
    """Requests a second, Poisson; the sweep ends behind the first that is out of bounds. A soak
    takes the first."""
    clients: tuple[int, ...] = (8, 32)
    """Numbers of them that ask again when they have their answer."""
    crowds: tuple[int, ...] = (200, 1000)
    """Numbers of streams that begin in one moment."""
    leavers: int = 1000
    """Clients that leave in the middle of a stream."""
    early_leavers: int = 200
    """Clients that leave before its first byte."""
    wave: int = 50
    """Leavers at once."""
    seconds: float = 15.0
    """Of each rate, and of each number of clients."""
    minutes: float = 10.0
    """Of a soak."""
    in_flight: int = 1000
    """Requests of an open loop; what is due beyond is not sent, but counted."""
    seed: int = 0
    """Of the arrivals, and of which request is what."""
    ttfa_p95_ms: float = 500.0
    """The bound of the knee."""
    underrun_share: float = 0.01
    """The same, of the streams whose player ran dry at all."""

    @property
    def bounds(self) -> Bounds:
        return Bounds(self.ttfa_p95_ms, self.underrun_share)

    def check(self) -> None:
        """See that it can be followed, and take the descriptors that it needs.

        Raises:
            BenchError: it cannot.
        """
        if min((*self.rates, self.seconds, self.minutes)) <= 0:
            raise BenchError("rates and times must be above 0")
        counts = (*self.clients, *self.crowds, self.leavers, self.wave, self.in_flight)
        if min((*counts, self.early_leavers)) < 1:
            raise BenchError("numbers of clients must be 1 or more")
        if not 0 <= self.transcription_share <= 1:
            raise BenchError("--transcription-share must be within 0 and 1")
        take_descriptors(max((*self.clients, *self.crowds, self.wave, self.in_flight)))


def take_descriptors(connections: int) -> None:
    """Raise this process's limit, and that of a server it starts, to what the system allows.

    Raises:
        BenchError: that is not enough.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _SPARE_DESCRIPTORS
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(f"{connections} connections need {needed} descriptors; {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def server_of(plan: LoadPlan) -> Iterator[Target]:
    """The server that is loaded; one of its own is stopped afterwards.

    Raises:
        BenchError: it did not start, or the address is none.
    """
    if plan.url is None:
        with own_server(_settings(plan), READY_S) as host:
            yield Target(host.address, pid=host.pid)
        return
    url = urlsplit(plan.url)
    if url.scheme != "http" or url.hostname is None:
        raise BenchError(f"{plan.url}: http://HOST:PORT is needed")
    yield Target(Address(url.hostname, url.port or 80), os.environ.get("OPENAI_API_KEY"), plan.pid)


def _settings(plan: LoadPlan) -> dict[str, object]:
    """That engine and the embedded recogniser: nothing waits for models that may be here."""
    others = {name: {"enabled": name == plan.engine} for name in ("espeak-ng", "glm-tts")}
    own = {plan.engine: {"enabled": True}}
    listens = {"pocketsphinx": {"enabled": plan.transcription_share > 0}}
    return {
        "speech_engines": [plan.engine],
        "engines": {**others, **own, **listens, "whisper": {"enabled": False}},
    }
