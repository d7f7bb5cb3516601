"""The tools as the `mcp` package serves them. Imported only where that is installed."""

from __future__ import annotations

import asyncio
import logging
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from secrets import token_hex
from typing import Any, TypeVar

import mcp_types as wire
import msgspec
from litestar.connection import ASGIConnection
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from msgspec import Struct
from starlette.requests import Request

from engine.errors import EngineError
from server import VERSION
from server.auth import owner_of
from server.context import RequestContext, context_of
from server.errors import as_api_error
from server.mcp.arguments import AddVoice, ListVoices, Speak, Status, Transcribe
from server.mcp.calls import Answer, Call
from server.mcp.tools import Tools
from server.schemas.body import refusal

logger = logging.getLogger(__name__)

Context = ServerRequestContext[Any, Any]
T = TypeVar("T")

_INSTRUCTIONS = (
    "Speaks texts, transcribes recordings, and keeps voices to speak with, on this machine."
)


class _Tool(Struct, frozen=True):
    """One tool: what it takes, and what does it."""

    arguments: type[Struct]
    run: Callable[[Any, Call], Awaitable[Answer]]
    changes: bool = False
    """It may write something that stays."""

    def described(self, name: str) -> wire.Tool:
        _, components = msgspec.json.schema_components([self.arguments])
        schema = components[self.arguments.__name__]
        description = " ".join(schema.pop("description", "").split())
        return wire.Tool(
            name=name,
            description=description,
            input_schema=schema,
            annotations=wire.ToolAnnotations(
                read_only_hint=not self.changes, open_world_hint=False
            ),
        )


def create_protocol(tools: Tools) -> Server[Any]:
    """A server of the tools, for any transport.

    A tool that fails answers with `is_error`, a message and the request's id. Cancelling a call
    ends its job in the engine.
    """
    by_name = {
        "speak": _Tool(Speak, tools.speak, changes=True),
        "transcribe": _Tool(Transcribe, tools.transcribe),
        "list_voices": _Tool(ListVoices, tools.list_voices),
        "add_voice": _Tool(AddVoice, tools.add_voice, changes=True),
        "status": _Tool(Status, tools.status),
    }
    listed = [tool.described(name) for name, tool in by_name.items()]
    running: set[asyncio.Task[wire.CallToolResult]] = set()

    async def list_tools(
        _: Context, __: wire.PaginatedRequestParams | None
    ) -> wire.ListToolsResult:
        return wire.ListToolsResult(tools=listed)

    async def call_tool(ctx: Context, params: wire.CallToolRequestParams) -> wire.CallToolResult:
        if (tool := by_name.get(params.name)) is None:
            message = f"no such tool: {params.name[:200]!r}; there are: {', '.join(by_name)}"
            raise MCPError(wire.INVALID_PARAMS, message)
        task = asyncio.create_task(_run(tool, params.arguments or {}, _call_of(ctx)))
        running.add(task)
        task.add_done_callback(running.discard)
        try:
            # A task of its own: anyio cancels at every await until its scope is left, and what a
            # tool cleans up (a thread that reads a file, for one) has to be awaited in peace.
            return await asyncio.shield(task)
        finally:
            task.cancel()

    return Server(
        "rhapsode",
        version=VERSION,
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        get_tool_input_schema={tool.name: tool.input_schema for tool in listed}.get,
    )


async def _run(tool: _Tool, arguments: dict[str, Any], call: Call) -> wire.CallToolResult:
    try:
        try:
            given = msgspec.convert(arguments, tool.arguments, strict=False)
        except msgspec.ValidationError as exc:
            raise refusal(exc) from exc
        answer = await tool.run(given, call)
    except Exception as exc:  # noqa: BLE001 - the protocol's boundary, as `handle_error` is HTTP's
        return _failed(exc, call.context.request_id)
    content: list[wire.ContentBlock] = []
    if answer.audio is not None:
        data = b64encode(answer.audio).decode()
        content.append(wire.AudioContent(data=data, mime_type=answer.media_type))
    content += [wire.TextContent(text=text) for text in (answer.text, answer.note) if text]
    return wire.CallToolResult(content=content)


def _failed(error: Exception, request_id: str) -> wire.CallToolResult:
    answer = as_api_error(error)
    message = str(answer)
    if isinstance(error, OSError):
        message = f"the file could not be read or written: {error.strerror}"
    is_bug = answer.status == HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(
        error, EngineError | OSError
    )
    logger.log(
        logging.ERROR if is_bug else logging.INFO,
        "event=refused request_id=%s client=mcp code=%s param=%s",
        request_id,
        answer.code,
        answer.param,
        exc_info=error if is_bug else None,
    )
    text = f"{message} (code={answer.code} request_id={request_id})"
    return wire.CallToolResult(content=[wire.TextContent(text=text)], is_error=True)


def _call_of(ctx: Context) -> Call:
    """Over HTTP each call has a request of its own, with its id and its key."""

    async def report(done_s: float, message: str) -> None:
        await ctx.session.report_progress(done_s, message=message)

    if isinstance(ctx.request, Request):
        scope: Any = ctx.request.scope
        return Call(context_of(scope), owner_of(ASGIConnection(scope)), report)
    return Call(RequestContext(f"req_{token_hex(16)}", time.perf_counter()), None, report)
