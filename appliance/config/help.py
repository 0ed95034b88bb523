"""What each setting is for, from the schema itself: the comments beside its fields are the help.

``help_of("rule.no-ads.action")`` answers for the console, the command line and docs/configuration.md.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
import types
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from appliance.config import rules, schema, sides
from appliance.config.paths import Part, Parts, PathError, joined, split
from appliance.config.schema import Config

# number: a whole one. moment: a time with its zone. table: settings of its own.
Kind = Literal["text", "number", "bool", "choice", "address", "network", "moment", "table"]

# How words of a field's name are written in its title.
_SPELLED = {
    "dns": "DNS", "dnssec": "DNSSEC", "ech": "ECH", "icmp": "ICMP", "ipv4": "IPv4", "lan": "LAN",
    "macs": "MAC addresses", "mib": "MiB", "pac": "PAC", "tcp": "TCP", "tls": "TLS", "udp": "UDP",
    "urls": "URLs", "wan": "WAN", "http": "HTTP", "socks": "SOCKS", "vlan": "VLAN", "mtu": "MTU",
    "ntp": "NTP", "dhcpv6": "DHCPv6", "pref64": "PREF64",
}  # fmt: skip
_NO_HELP = re.compile(r"(noqa|type:|fmt:)")


@dataclass(frozen=True, slots=True)
class Help:
    """One setting or table.

    ``path`` is its general one ("rule.action", without the entry). ``default`` is a plain value, None where
    nothing is set; ``required``: it has to be given. ``many``: a list of such values, or of such tables.
    ``minimum`` and ``maximum`` are a number's, ``least`` and ``most`` how many entries a list may have.
    """

    path: str
    title: str
    text: str
    default: Any
    kind: Kind
    many: bool = False
    required: bool = False
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    least: int | None = None
    most: int | None = None
    optional: bool = False  # may be left unset


@dataclass(frozen=True, slots=True)
class _Shape:
    """What an annotation says."""

    kind: Kind
    many: bool = False
    optional: bool = False
    choices: tuple[str, ...] = ()
    model: type[BaseModel] | None = None
    limits: tuple[object, ...] = ()


_KINDS: dict[object, Kind] = {
    str: "text",
    int: "number",
    bool: "bool",
    datetime: "moment",
    IPv4Address: "address",
    IPv6Address: "address",
    IPv4Interface: "address",
    IPv4Network: "network",
    IPv6Network: "network",
}


def _shape(annotation: Any) -> _Shape:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *limits = get_args(annotation)
        found = _shape(inner)
        return _Shape(found.kind, found.many, found.optional, found.choices, found.model, tuple(limits))
    if origin is Literal:
        values = get_args(annotation)
        if all(isinstance(value, int) for value in values):
            return _Shape("number")
        return _Shape("choice", choices=tuple(str(value) for value in values))
    if origin in (Union, types.UnionType):
        arms = [arm for arm in get_args(annotation) if arm is not types.NoneType]
        shapes = [_shape(arm) for arm in arms]
        # Of a word or a value ("generated" or a prefix) the value's kind says more; the word is its choice.
        shape = next((one for one in shapes if one.kind != "choice"), shapes[0])
        choices = tuple(choice for one in shapes for choice in one.choices)
        optional = len(arms) < len(get_args(annotation))
        return _Shape(shape.kind, shape.many, optional, choices, shape.model, shape.limits)
    if origin is tuple:
        found = _shape(get_args(annotation)[0])
        return _Shape(found.kind, True, False, found.choices, found.model, found.limits)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _Shape("table", model=annotation)
    return _Shape(_KINDS[annotation])


def _field_shape(info: FieldInfo) -> _Shape:
    found = _shape(info.annotation)
    limits = (*info.metadata, *found.limits)  # of a list, and of its values
    return _Shape(found.kind, found.many, found.optional, found.choices, found.model, limits)


@lru_cache(maxsize=1)
def _comments() -> dict[tuple[str, str], str]:
    """The comment above and behind each field, by class and field."""
    found: dict[tuple[str, str], str] = {}
    for module in (schema, sides, rules):
        source = inspect.getsource(module)
        lines = source.splitlines()
        comments = {
            token.start[0]: token.string.lstrip("# ")
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        }
        for table in ast.walk(ast.parse(source)):
            if not isinstance(table, ast.ClassDef):
                continue
            for field in table.body:
                if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                    continue
                above: list[str] = []
                line = field.lineno - 1
                while line in comments and lines[line - 1].lstrip().startswith("#"):
                    above.insert(0, comments[line])
                    line -= 1
                within = range(field.lineno, (field.end_lineno or field.lineno) + 1)
                behind = [
                    comments[at] for at in within if at in comments and not _NO_HELP.match(comments[at])
                ]
                found[table.name, field.target.id] = _sentence(" ".join([*above, *behind]))
    return found


def _sentence(text: str) -> str:
    text = " ".join(text.split()).replace("``", "")
    if not text:
        return ""
    if text.split(" ")[0].isalpha():  # and no value, such as a.example
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _text(model: type[BaseModel], name: str) -> str:
    comments = _comments()
    for base in model.__mro__:
        if (base.__name__, name) in comments:
            return comments[base.__name__, name]
    return ""


def title_of(name: str) -> str:
    """A field's name as a person writes it: "max_new_per_client" is "Max new per client"."""
    words = [_SPELLED.get(word, word) for word in name.split("_")]
    return words[0][0].upper() + words[0][1:] + "".join(f" {word}" for word in words[1:])


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _limit(shape: _Shape, kind: type, attribute: str) -> int | None:
    for limit in shape.limits:
        for one in getattr(limit, "metadata", (limit,)):  # of a Field inside Annotated
            if isinstance(one, kind):
                return int(getattr(one, attribute))
    return None


def _help(path: Parts, model: type[BaseModel], name: str) -> Help:
    info = model.model_fields[name]
    shape = _field_shape(info)
    text = _text(model, name)
    if shape.model is not None:
        about = inspect.cleandoc(shape.model.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        text = " ".join(part for part in (about, text) if part)
    required = info.is_required()
    value = None if required else info.get_default(call_default_factory=True)
    return Help(
        path=joined(path),
        title=title_of(name),
        text=text,
        default=_plain(value),
        kind=shape.kind,
        many=shape.many,
        required=required,
        choices=shape.choices,
        minimum=_limit(shape, Ge, "ge"),
        maximum=_limit(shape, Le, "le"),
        least=_limit(shape, MinLen, "min_length"),
        most=_limit(shape, MaxLen, "max_length"),
        optional=shape.optional,
    )


def _find(model: type[BaseModel], parts: tuple[Part, ...], general: Parts) -> Help | None:
    """The field that the parts lead to; an entry's name or number is passed over."""
    name = parts[0]
    if not isinstance(name, str) or name not in model.model_fields:
        return None
    here = (*general, name)
    shape = _field_shape(model.model_fields[name])
    rest = parts[1:]
    if not rest or (len(rest) == 1 and isinstance(rest[0], int) and shape.many and shape.model is None):
        return _help(here, model, name)
    if shape.model is None:
        return None
    found = _find(shape.model, rest, here)
    if found is None and shape.many:
        # An entry, or a setting of it.
        return _find(shape.model, rest[1:], here) if rest[1:] else _help(here, model, name)
    return found


def help_of(path: str) -> Help:
    """Of a setting ("lan.prefix", "rule.action", "rule.no-ads.action", "rule[3].action") or a table ("lan").

    PathError where the schema has none.
    """
    parts = split(path)
    found = _find(Config, parts, ()) if parts else None
    if found is None:
        raise PathError(f"there is no setting “{path}”", "docs/configuration.md lists all.")
    return found


def children(path: str = "") -> list[Help]:
    """The settings and tables directly below a table, in the schema's order; none below a setting."""
    model = model_of(path)
    if model is None:
        return []
    here = split(help_of(path).path) if path else ()
    return [_help((*here, name), model, name) for name in model.model_fields]


def model_of(path: str) -> type[BaseModel] | None:
    """The model of the table or the list of tables there; None for a setting."""
    if not path:
        return Config
    model: type[BaseModel] | None = Config
    for part in split(help_of(path).path):
        assert model is not None
        model = _field_shape(model.model_fields[str(part)]).model
    return model


def every() -> Iterator[Help]:
    """Every table and setting, each table before what is in it."""

    def below(path: str) -> Iterator[Help]:
        for one in children(path):
            yield one
            if one.kind == "table":
                yield from below(one.path)

    return below("")
