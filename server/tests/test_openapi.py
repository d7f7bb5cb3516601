"""The description of the API says what the app does."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from litestar import Litestar
from litestar.routes import ASGIRoute, HTTPRoute
from litestar.testing import TestClient

from server.app import create_app
from server.audio.formats import FORMATS
from server.catalog import Engines
from server.openapi import describe
from server.settings import Settings
from server.tests.fakes import FakeEngine, FakeListener

Json = dict[str, Any]

KEYS = ("sk-right",)
UNDESCRIBED = {"HEAD", "OPTIONS"}
"""Said of all in one sentence, and answered by the framework."""
MCP = {("POST", "/mcp", "post_mcp"), ("DELETE", "/mcp", "delete_mcp")}
"""Another package's app, in which ours sees no methods."""
CALLED_IMPORT = {
    (method, "/v1/audio/voices/import", f"{verb}_voice")
    for method, verb in (("GET", "get"), ("PATCH", "change"), ("DELETE", "delete"))
}
"""A voice of that name, which `{voice}` describes."""


def app(settings: Settings) -> Litestar:
    return create_app(
        settings, Engines({"espeak-ng": FakeEngine()}, {"pocketsphinx": FakeListener()})
    )


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def path_of(route: HTTPRoute) -> str:
    parts = (p if isinstance(p, str) else f"{{{p.name}}}" for p in route.path_components)
    return "/" + "/".join(parts)


def documented(*, has_keys: bool = True, open_catalog: bool = False) -> Json:
    document: Json = json.loads(describe(has_keys=has_keys, open_catalog=open_catalog))
    return document


def test_every_route_is_described_under_its_handlers_name_and_nothing_else() -> None:
    routes = app(Settings()).routes
    served = {
        (str(method), path_of(route), handler.handler_name)
        for route in routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in set(handler.http_methods) - UNDESCRIBED
    }
    described = {
        (method, path, operation["operationId"])
        for method, path, operation in operations(documented())
    }
    assert described | CALLED_IMPORT == served | MCP
    assert [route.path for route in routes if isinstance(route, ASGIRoute)] == ["/mcp"]


def test_description_is_valid_openapi_and_every_reference_leads_somewhere() -> None:
    text = describe(has_keys=True, open_catalog=False).decode()
    document = json.loads(text)
    names = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert names == names & set(document["components"]["schemas"])
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.validator_for(
            {**schema, "components": document["components"]}
        )  # raises if it is no JSON Schema


def test_description_is_served_to_who_has_no_key() -> None:
    with TestClient(app(Settings(api_keys=KEYS))) as client:
        answer = client.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == documented(open_catalog=Settings().open_catalog)


@pytest.mark.parametrize("open_catalog", [False, True])
def test_description_says_truly_what_needs_a_key(open_catalog: bool) -> None:
    settings = Settings(api_keys=KEYS, open_catalog=open_catalog)
    with TestClient(app(settings), raise_server_exceptions=False) as client:
        for method, path, operation in operations(documented(open_catalog=open_catalog)):
            status = client.request(method, path).status_code
            assert (status == 401) == ("security" in operation), f"{method} {path}"
            assert ("401" in operation["responses"]) == ("security" in operation)


def test_without_keys_there_is_no_word_of_them() -> None:
    document = documented(has_keys=False)
    assert "securitySchemes" not in document["components"]
    for _, _, operation in operations(document):
        assert "security" not in operation
        assert "401" not in operation["responses"]


def test_speech_is_described_in_all_formats_and_as_events() -> None:
    speech = documented()["paths"]["/v1/audio/speech"]["post"]
    content = speech["responses"]["200"]["content"]
    assert set(content) == {row.media_type for row in FORMATS.values()} | {"text/event-stream"}
    event = content["text/event-stream"]["itemSchema"]["properties"]["data"]
    assert {"$ref": "#/components/schemas/AudioDone"} in event["contentSchema"]["anyOf"]


def test_forms_hold_files_and_no_null() -> None:
    document = documented()
    for _, _, operation in operations(document):
        for media_type, body in operation.get("requestBody", {"content": {}})["content"].items():
            if media_type == "application/json":
                continue
            name = body["schema"]["$ref"].rpartition("/")[2]
            fields = document["components"]["schemas"][name]["properties"]
            assert '"null"' not in json.dumps(fields)
            files = [field for field in fields.values() if field.get("format") == "binary"]
            assert len(files) == (media_type == "multipart/form-data")
