"""What an operation is made of."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from server.errors import ErrorEnvelope

Binary: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "binary"})]
"""Bytes as they are: a file in a form, or a body that is no text."""


class RpcMessage(Struct, frozen=True, kw_only=True):
    """JSON-RPC 2.0, as the Model Context Protocol uses it."""

    jsonrpc: Literal["2.0"]
    id: int | str | UnsetType = UNSET
    """Left out of a notification."""
    method: str | UnsetType = UNSET
    params: dict[str, Any] | UnsetType = UNSET


class Form(Struct, frozen=True):
    """A form. Text fields that are left empty count as absent, so nothing in it is null."""

    fields: type[Struct]


class Events(Struct, frozen=True):
    """Server-sent events; the data of each is the JSON of one of these."""

    kinds: tuple[Any, ...]


Schema: TypeAlias = Any
"""A type as msgspec knows it, a tuple of which one holds, a Form, or Events."""

Content: TypeAlias = Mapping[str, Schema]
"""By media type."""

NOTHING: Content = {}
"""An answer without a body."""


ENVELOPE: Content = MappingProxyType({"application/json": ErrorEnvelope})


class Query(Struct, frozen=True):
    """A parameter behind the question mark."""

    name: str
    type: Schema
    description: str


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path."""

    id: str
    """Name of the handler."""
    tag: str
    summary: str
    access: Literal["open", "catalog", "key"] = "key"
    """As `server.auth` has it."""
    body: Content | None = None
    query: tuple[Query, ...] = ()
    answers: Mapping[int, Content]
    """Those that are no error."""
    errors: tuple[int, ...] = ()
    """Statuses beside those that `document` gives to all, to all with a body, and to all with a
    key."""
    error: Content = ENVELOPE
    """Body of every error."""
