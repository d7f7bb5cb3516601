"""`rhapsode mcp`: the tools over standard input and output, with engines of its own."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from mcp.server.stdio import stdio_server

from server.app import create_library
from server.decoders import Decoders
from server.enrollment import Enroller
from server.keys import Keyring
from server.mcp.protocol import create_protocol
from server.mcp.tools import Tools
from server.offline import running_catalog
from server.quotas import Quotas
from server.recents import Ledger
from server.settings import Settings
from server.tracing import open_tracing
from server.turns import Turns


async def serve_stdio(settings: Settings) -> None:
    """Serve one client until it closes standard input.

    Raises:
        SettingsError: an allowed folder is not there, or traces cannot be sent.
        StoreUnavailable: voices cannot be kept where the settings say.
    """
    try:
        await _serve(settings)
    except ExceptionGroup as group:  # as the streams' own tasks make of any error
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group
        raise


async def _serve(settings: Settings) -> None:
    ledger = Ledger(open_tracing(settings, os.environ))
    # Standard output is the protocol's before an engine starts: whatever a worker prints goes to
    # standard error.
    async with (
        stdio_server() as (reading, writing),
        running_catalog(settings) as catalog,
        Decoders(settings.recordings, log_level=settings.log_level) as decoders,
    ):
        with ThreadPoolExecutor(settings.codec_threads) as threads:
            library = create_library(settings, catalog, threads)
            turns = Turns(settings, Quotas(Keyring(())))
            enroller = Enroller(library, catalog, decoders, turns)
            tools = Tools(settings, catalog, library, enroller, ledger, threads, decoders, turns)
            protocol = create_protocol(tools)
            await protocol.run(reading, writing, protocol.create_initialization_options())
