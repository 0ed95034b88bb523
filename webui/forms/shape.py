"""What the schema says of a field, as far as a form has to know it."""

from __future__ import annotations

import types
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python


class Kind(Enum):
    """What a field is edited with."""

    TEXT = "text"
    NUMBER = "number"
    CHECK = "check"  # yes or no
    CHOICE = "choice"  # one of a few
    SEVERAL = "several"  # any of a few
    ROWS = "rows"  # a list, a row for each
    GROUPS = "groups"  # a list of tables
    MOMENT = "moment"


@dataclass(frozen=True, slots=True)
class Shape:
    """``default`` is plain (as JSON has it), None where there is none. ``low`` and ``high`` are inclusive."""

    kind: Kind
    optional: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None
    numbers: bool = False  # of rows: each is a number
    model: type[BaseModel] | None = None  # of groups: what each is


def _bare(annotation: Any) -> tuple[Any, list[Any], bool]:
    """The type without its wrapping, the constraints found on the way, and whether None will do."""
    constraints: list[Any] = []
    optional = False
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *extra = get_args(annotation)
            for one in extra:
                constraints += one.metadata if isinstance(one, FieldInfo) else [one]
        elif origin in (Union, types.UnionType) and type(None) in get_args(annotation):
            rest = [arm for arm in get_args(annotation) if arm is not type(None)]
            optional = True
            annotation = rest[0] if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007 - built at run time
        else:
            return annotation, constraints, optional


def _bounds(constraints: list[Any]) -> tuple[int | None, int | None]:
    low = next((one.ge for one in constraints if hasattr(one, "ge")), None)
    high = next((one.le for one in constraints if hasattr(one, "le")), None)
    return low, high


def _of(annotation: Any, constraints: list[Any], default: Any) -> Shape:
    core, more, optional = _bare(annotation)
    low, high = _bounds([*constraints, *more])
    origin = get_origin(core)
    if core is bool:
        return Shape(Kind.CHECK, optional, default)
    if core is int:
        return Shape(Kind.NUMBER, optional, default, low=low, high=high)
    if core is datetime:
        return Shape(Kind.MOMENT, optional, default)
    if origin is Literal:
        return Shape(Kind.CHOICE, optional, default, tuple(str(choice) for choice in get_args(core)))
    if origin is tuple:
        item, inner, _optional = _bare(get_args(core)[0])
        if get_origin(item) is Literal:
            return Shape(Kind.SEVERAL, optional, default, tuple(str(choice) for choice in get_args(item)))
        if isinstance(item, type) and issubclass(item, BaseModel):
            return Shape(Kind.GROUPS, optional, default, model=item)
        low, high = _bounds(inner)
        return Shape(Kind.ROWS, optional, default, low=low, high=high, numbers=item is int)
    return Shape(Kind.TEXT, optional, default)


@cache
def shape_of(model: type[BaseModel], name: str) -> Shape:
    """The shape of a field; of one inside a table by a dotted name ("timers.udp")."""
    head, dot, rest = name.partition(".")
    info = model.model_fields[head]
    if dot:
        inner, _constraints, _optional = _bare(info.annotation)
        return shape_of(inner, rest)
    default = info.get_default(call_default_factory=True)
    plain = None if default is PydanticUndefined else to_jsonable_python(default, fallback=str)
    return _of(info.annotation, list(info.metadata), plain)
