"""From our types to JSON Schema."""

from __future__ import annotations

from typing import Any

import msgspec

from server.openapi.parts import Events, Form, Schema

Json = dict[str, Any]

_PREFIX = "#/components/schemas/"


class Schemas:
    """The schemas of a document; those that have a name are gathered in `components`."""

    def __init__(self) -> None:
        self.components: dict[str, Json] = {}

    def of(self, schema: Schema) -> Json:
        """The schema, or a reference to it."""
        match schema:
            case tuple():
                return {"anyOf": [self.of(each) for each in schema]}
            case Form(fields):
                reference = self._of_type(fields)
                name = reference["$ref"].removeprefix(_PREFIX)
                self.components[name] = _without_null(self.components[name])
                return reference
            case Events(kinds):
                data: Json = {
                    "type": "string",
                    "contentMediaType": "application/json",
                    "contentSchema": self.of(kinds),
                }
                return {"type": "object", "properties": {"data": data}, "required": ["data"]}
            case _:
                return self._of_type(schema)

    def _of_type(self, kind: Any) -> Json:
        (schema,), components = msgspec.json.schema_components(
            [kind], ref_template=_PREFIX + "{name}"
        )
        self.components |= components
        return schema


def _without_null(form: Json) -> Json:
    """A form's text cannot say null."""
    fields = {name: _not_null(field) for name, field in form["properties"].items()}
    return {**form, "properties": fields}


def _not_null(field: Json) -> Json:
    kinds = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
    if not kinds:
        return field
    rest = {key: value for key, value in field.items() if key not in ("anyOf", "default")}
    return {**rest, **(kinds[0] if len(kinds) == 1 else {"anyOf": kinds})}
