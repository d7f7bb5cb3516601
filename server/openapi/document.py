"""From the table of operations to an OpenAPI document.

Its version is 3.2, the first that has words for a stream of events.
"""

from __future__ import annotations

import re
from functools import cache

import msgspec

from server import VERSION
from server.openapi.operations import OPERATIONS
from server.openapi.parts import Binary, Content, Events, Operation, Schema
from server.openapi.schemas import Json, Schemas

_DESCRIPTION = (
    "Speech to text and text to speech behind OpenAI's API. HEAD works where GET stands below "
    "/api and for lists, models, engines, pages and /metrics. Any other method is answered 405, "
    "any other URL 404. Unknown fields are ignored; numbers and booleans may come as text."
)
_OF_ALL = (500, 503)
_OF_BODIES = (400, 408, 413)
_MEANINGS = {
    400: "it cannot be done as asked; `param` names the field at fault, if it is one",
    401: "no key, or a wrong one",
    403: "not yours to change",
    404: "no such thing, or somebody else's",
    406: "the answer's media types are not accepted",
    408: "the body came too slowly",
    413: "the body, or a part of it, is too large",
    415: "the body is not JSON",
    421: "this server does not go by that host's name",
    429: "too much at once, or a limit of the key is reached: try again after `retry-after`",
    500: "the server or an engine failed",
    501: "not installed here",
    503: "not now: nothing can take it, or it took too long",
    507: "there is no room for more",
}
_GOOD = {200: "done", 202: "taken", 304: "it is what you have already"}
_REQUEST_ID: Json = {
    "x-request-id": {
        "description": "What this server's log calls the request.",
        "schema": {"type": "string"},
    }
}
_RETRY: Json = {
    "retry-after": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}},
    "retry-after-ms": {"description": "Milliseconds.", "schema": {"type": "integer", "minimum": 1}},
}


@cache
def describe(*, has_keys: bool, open_catalog: bool) -> bytes:
    """The document, as JSON.

    Args:
        has_keys: Callers need one.
        open_catalog: But not for lists of models and voices.
    """
    schemas = Schemas()
    locked = ({"key"} if open_catalog else {"key", "catalog"}) if has_keys else set()
    paths: dict[str, Json] = {}
    for route, operation in OPERATIONS.items():
        method, _, path = route.partition(" ")
        described = _operation(method, path, operation, schemas, has_keys=has_keys, locked=locked)
        paths.setdefault(path, {})[method.lower()] = described
    components: Json = {"schemas": schemas.components}
    if has_keys:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return msgspec.json.encode(
        {
            "openapi": "3.2.0",
            "info": {"title": "Rhapsode", "version": VERSION, "description": _DESCRIPTION},
            "paths": paths,
            "components": components,
        }
    )


def _operation(
    method: str,
    path: str,
    operation: Operation,
    schemas: Schemas,
    *,
    has_keys: bool,
    locked: set[str],
) -> Json:
    needs_key = operation.access in locked
    errors = {*_OF_ALL, *operation.errors}
    if operation.body is not None:
        errors |= {*_OF_BODIES}
    if needs_key:
        errors.add(401)
    if has_keys and method == "POST":
        errors.add(429)
    answers = {
        str(status): _answer(status, content, schemas)
        for status, content in operation.answers.items()
    }
    for status in sorted(errors - set(operation.answers)):
        answers[str(status)] = _answer(status, operation.error, schemas)
    described: Json = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": _parameters(path, operation, schemas),
        "responses": answers,
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.body, schemas)}
    if needs_key:
        described["security"] = [{"key": []}]
    return described


def _parameters(path: str, operation: Operation, schemas: Schemas) -> list[Json]:
    # What is empty is another URL.
    name_of_thing: Json = {"type": "string", "minLength": 1}
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": name_of_thing}
        for name in re.findall(r"{(\w+)}", path)
    ]
    in_query = [
        {
            "name": query.name,
            "in": "query",
            "description": query.description,
            "schema": schemas.of(query.type),
        }
        for query in operation.query
    ]
    return in_path + in_query


def _answer(status: int, content: Content, schemas: Schemas) -> Json:
    headers = {**_REQUEST_ID, **(_RETRY if status in (429, 503) else {})}
    answer: Json = {"description": {**_MEANINGS, **_GOOD}[status], "headers": headers}
    if content:
        answer["content"] = _content(content, schemas)
    return answer


def _content(content: Content, schemas: Schemas) -> Json:
    return {media_type: _media(schema, schemas) for media_type, schema in content.items()}


def _media(schema: Schema, schemas: Schemas) -> Json:
    if schema is Binary:
        return {}  # the media type says it all
    return {"itemSchema" if isinstance(schema, Events) else "schema": schemas.of(schema)}
