"""What every request carries: an id, a clock, and the headers that tell of both."""

from __future__ import annotations

import time
from secrets import token_hex
from typing import Any

from litestar.datastructures import Headers, MutableScopeHeaders
from litestar.types import Message, Scope
from msgspec import Struct
from msgspec.structs import replace

_STATE_KEY = "rhapsode_context"

_SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # Of all but the page, which has a policy of its own: nothing here is a document to be shown.
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


class RequestContext(Struct, frozen=True):
    """Made when a request is first looked at."""

    request_id: str
    started_at: float
    """time.perf_counter() seconds."""
    key: str | None = None
    """The name of the API key that it came with."""
    is_batch: bool = False
    """It waits behind others."""
    headers: dict[str, str] = {}
    """Others that go with the answer, whatever it is."""
    marks: dict[str, float] = {}
    """What it has come to, and when: time.perf_counter() seconds."""

    def elapsed_s(self) -> float:
        return time.perf_counter() - self.started_at


def context_of(scope: Scope | dict[str, Any]) -> RequestContext:
    """The request's context; begins it if need be."""
    state: dict[str, Any] = scope["state"]
    if (context := state.get(_STATE_KEY)) is None:
        context = state[_STATE_KEY] = RequestContext(f"req_{token_hex(16)}", time.perf_counter())
    return context


def sign_request(
    scope: Scope | dict[str, Any], key: str | None, *, is_batch: bool
) -> RequestContext:
    """Say whose request it is."""
    context = replace(context_of(scope), key=key, is_batch=is_batch)
    scope["state"][_STATE_KEY] = context
    return context


def client_facts(headers: Headers) -> dict[str, str]:
    """What a client's own log is matched by: its request id, which try this is, and its trace."""
    named = {
        "client_request_id": "x-client-request-id",
        "retry": "x-stainless-retry-count",
        "traceparent": "traceparent",
    }
    return {fact: value for fact, name in named.items() if (value := headers.get(name))}


async def stamp_headers(message: Message, scope: Scope) -> None:
    """Litestar's before_send hook: OpenAI's headers, and those that keep browsers from guessing, on
    every response, errors and streams too.

    `openai-processing-ms` of a stream is the time to its first byte.
    """
    if message["type"] == "http.response.start":
        context = context_of(scope)
        headers = MutableScopeHeaders.from_message(message)
        headers["x-request-id"] = context.request_id
        headers["openai-processing-ms"] = str(round(context.elapsed_s() * 1000))
        headers["openai-version"] = "2020-10-01"
        for name, value in {**_SAFE_HEADERS, **context.headers}.items():
            headers.setdefault(name, value)
