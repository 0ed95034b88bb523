"""The OpenAPI 3.1 document, from the table of routes."""

from __future__ import annotations

import re
from functools import cache
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from appliance import __version__
from webui.api import problems
from webui.api.bodies import NAME
from webui.api.route import PREFIX, Route
from webui.api.schemas import REF, configuration, doc_of, of_model, types
from webui.api.table import ROUTES

_PARTS: dict[str, dict[str, Any]] = {
    "path": {"schema": {"type": "string", "minLength": 1, "maxLength": 300},
             "description": "Of a setting: lan.prefix, rule.no-ads.action, user.\"ann@a.example\".groups."},
    "number": {"schema": {"type": "integer", "minimum": 1, "maximum": 2**53 - 1},
               "description": "Of a revision."},
    "id": {"schema": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9-]+$"},
           "description": "As the list has it."},
    "name": {"schema": {"type": "string", "pattern": NAME}, "description": "As the list has it."},
}  # fmt: skip
_TAG = {"ETag": {"schema": {"type": "string"}, "description": "For If-Match."}}


@cache
def document() -> dict[str, Any]:
    """The whole; the same object each time, which nobody changes."""
    schemas = {**configuration(), **types(), "Problems": problems.SCHEMA}
    schemas["Draft_"] = _struct_of_candidate(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Isthmus",
            "version": __version__,
            "description": "What the box's console can do, for programs. docs/api.md has examples.",
        },
        "servers": [{"url": PREFIX}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`isthmus token add NAME --role ROLE`, or in the console under System.",
                }
            },
        },
    }


def _struct_of_candidate(schemas: dict[str, Any]) -> dict[str, Any]:
    whole = schemas["Candidate"]
    without = ("config", "toml", "mark")
    return {
        "type": "object",
        "required": [name for name in whole["required"] if name not in without],
        "properties": {key: one for key, one in whole["properties"].items() if key not in without},
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, **_PARTS[name]}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    if route.query is not None:
        parameters += _query(route.query, schemas)
    if route.if_match:
        words = "The ETag of what was read: 412 where it is another by now."
        schema = {"type": "string", "pattern": r'^("[A-Za-z0-9-]{1,64}"|\*)$'}
        parameters.append(
            {"name": "If-Match", "in": "header", "required": route.if_match == "required",
             "description": words, "schema": schema}
        )  # fmt: skip
    made: dict[str, Any] = {
        "operationId": route.id,
        "tags": [route.tag],
        "summary": route.summary,
        "description": f"{doc_of(route.verb)}\n\nTakes the role {route.role}.".strip(),
        "responses": {str(status): _response(route, status) for status in route.statuses()},
    }
    if route.free:
        made["security"] = []
        made["description"] = "Takes no token."
    if parameters:
        made["parameters"] = parameters
    if route.body is not None:
        content: dict[str, Any] = {"schema": _body(route.body, schemas)}
        made["requestBody"] = {"required": True, "content": {route.takes: content}}
    return made


def _query(model: type[BaseModel], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    schema, inner = of_model(model)
    schemas.update(inner)
    found = []
    for name, one in schema["properties"].items():
        if "anyOf" in one:  # what may be left out; there is no null in an address line
            (kind,) = (option for option in one.pop("anyOf") if option != {"type": "null"})
            one |= kind
            one.pop("default", None)
        words = one.pop("description", "")
        one.pop("title", None)
        entry: dict[str, Any] = {"name": name, "in": "query", "schema": one}
        if words:
            entry["description"] = words
        if name in schema.get("required", ()):
            entry["required"] = True
        found.append(entry)
    return found


def _body(body: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    if isinstance(body, type) and issubclass(body, BaseModel):
        schema, inner = of_model(body)
        schemas.update(inner)
        return schema
    return dict(body)


def _response(route: Route, status: int) -> dict[str, Any]:
    words = HTTPStatus(status).phrase
    if status != route.status:
        found: dict[str, Any] = {
            "description": words,
            "content": {problems.MEDIA: {"schema": {"$ref": f"{REF}Problems"}}},
        }
        if status == 401:
            found["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
        return found
    made: dict[str, Any] = {"description": words}
    if route.answer is not None:
        made["content"] = {route.media.partition(";")[0]: {"schema": dict(route.answer)}}
    return made
