"""What every request carries: an id, a clock, and the headers that tell of both."""

from __future__ import annotations

import time
from secrets import token_hex
from typing import Any

from litestar.datastructures import Headers, MutableScopeHeaders
from litestar.types import Message, Scope
from msgspec import Struct

_STATE_KEY = "rhapsode_context"


class RequestContext(Struct, frozen=True):
    """Made when a request is first looked at."""

    request_id: str
    started_at: float
    """time.perf_counter() seconds."""

    def elapsed_s(self) -> float:
        return time.perf_counter() - self.started_at


def context_of(scope: Scope | dict[str, Any]) -> RequestContext:
    """The request's context; begins it if need be."""
    state: dict[str, Any] = scope["state"]
    if (context := state.get(_STATE_KEY)) is None:
        context = state[_STATE_KEY] = RequestContext(f"req_{token_hex(16)}", time.perf_counter())
    return context


def client_facts(headers: Headers) -> dict[str, str]:
    """What a client's own log is matched by: its request id, and which try this is."""
    named = {"client_request_id": "x-client-request-id", "retry": "x-stainless-retry-count"}
    return {fact: value for fact, name in named.items() if (value := headers.get(name))}


async def stamp_headers(message: Message, scope: Scope) -> None:
    """Litestar's before_send hook: OpenAI's headers on every response, errors and streams too.

    `openai-processing-ms` of a stream is the time to its first byte.
    """
    if message["type"] == "http.response.start":
        context = context_of(scope)
        headers = MutableScopeHeaders.from_message(message)
        headers["x-request-id"] = context.request_id
        headers["openai-processing-ms"] = str(round(context.elapsed_s() * 1000))
        headers["openai-version"] = "2020-10-01"
