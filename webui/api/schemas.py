"""JSON Schemas of what control answers, from its interface file; of the configuration, from its models."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from varlink.scanner import Interface

import appliance.control.client
from appliance.config import Config

REF = "#/components/schemas/"
_INTERFACE = Path(appliance.control.client.__file__).with_name("org.isthmus.control.varlink")
_KINDS = {str: "string", bool: "boolean", int: "integer", float: "number"}


@cache
def _members() -> dict[str, Any]:
    return dict(Interface(_INTERFACE.read_text()).members)


def _schema(kind: Any) -> dict[str, Any]:
    """Of a type as the library's scanner has it: a value of the type, or one of its own classes."""
    match type(kind).__name__:
        case "_Maybe":
            return {"anyOf": [_schema(kind.element_type), {"type": "null"}]}
        case "_Array":
            return {"type": "array", "items": _schema(kind.element_type)}
        case "_CustomType":
            return {"$ref": f"{REF}{kind.name}"}
        case "_Struct":
            return _struct(kind.fields)
        case _:
            word = _KINDS.get(kind if isinstance(kind, type) else type(kind))
            return {"type": word} if word else {}


def _struct(fields: dict[str, Any]) -> dict[str, Any]:
    """What may be null may be left out, too: the library leaves it out."""
    return {
        "type": "object",
        "required": [name for name, kind in fields.items() if type(kind).__name__ != "_Maybe"],
        "properties": {name: _schema(kind) for name, kind in fields.items()},
    }


def reply_of(verb: str, *but: str, **more: Any) -> dict[str, Any]:
    """The schema of a verb's reply, without the fields ``but``, with ``more``."""
    made = _struct(dict(_members()[verb].out_type.fields))
    made["properties"] = {k: v for k, v in made["properties"].items() if k not in but} | more
    made["required"] = [name for name in made["required"] if name not in but] + list(more)
    return made


def doc_of(verb: str) -> str:
    """What the interface file says of a verb."""
    return " ".join(str(_members()[verb].doc).split())


def types() -> dict[str, dict[str, Any]]:
    """Every type of the interface, by its name."""
    return {
        name: _struct(dict(member.type.fields))
        for name, member in _members().items()
        if type(member).__name__ == "_Alias"
    }


def of_model(model: type[BaseModel], prefix: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """(schema, those that it refers to by name, which has ``prefix`` before it)."""
    made = model.model_json_schema(ref_template=REF + prefix + "{model}")
    inner: dict[str, Any] = made.pop("$defs", {})
    return made, inner


def configuration() -> dict[str, dict[str, Any]]:
    """The schema of a configuration as the box answers with it ("Config"), and of its tables ("ConfigGroup").

    Control has a type Group too, which is another.
    """
    made, inner = of_model(Config, "Config")
    return {"Config": made, **{f"Config{name}": schema for name, schema in inner.items()}}
