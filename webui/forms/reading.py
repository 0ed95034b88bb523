"""What was typed into a form, as the configuration has it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from werkzeug.datastructures import MultiDict

from webui.forms.layout import Field
from webui.forms.plain import Plain, at, replaced, steps
from webui.forms.shape import Kind, Shape, shape_of

# Rows of one list on a page. Fewer hides what a person still reads at a glance; more makes forms that
# exceed what the console takes. What is beyond is kept as it is.
MAX_ROWS = 100
_SPLIT = re.compile(r"[\s,;]+")


def on_the_clock(value: Any, zone: str) -> str:
    """For an input of date and time: on the clock of the box, without a zone."""
    if not value:
        return ""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return str(value)
    if moment.tzinfo is None:
        return str(value)
    return moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%dT%H:%M")


def read(
    fields: Iterable[Field],
    model: type[BaseModel],
    before: Plain,
    posted: MultiDict[str, str],
    prefix: str,
    zone: str,
) -> Plain:
    """``before`` with what was typed into these fields; moments are on the clock of ``zone``."""
    values = dict(before)
    for one in fields:
        shape = shape_of(model, one.name)
        name = prefix + one.name
        if one.when:
            other, _equals, wanted = one.when.partition("=")
            if posted.get(prefix + other) != wanted:
                values = replaced(values, steps(one.name), None)
                continue
        old = at(values, steps(one.name))
        values = replaced(values, steps(one.name), _value(zone, one, shape, name, old, posted))
    return values


def _value(zone: str, one: Field, shape: Shape, name: str, old: Any, posted: MultiDict[str, str]) -> Any:
    """What was typed, as the configuration has it; None for nothing."""
    kind = shape.kind
    if kind is Kind.CHECK:
        return name in posted
    if kind is Kind.SEVERAL:
        return [choice for choice in shape.choices if choice in posted.getlist(name)]
    if kind is Kind.ROWS:
        return _typed_rows(one, shape, name, old or [], posted)
    if kind is Kind.GROUPS:
        return _typed_groups(zone, one, shape, name, posted)
    text = posted.get(name, "").strip()
    if not text and shape.optional:
        return None
    if kind is Kind.NUMBER:
        return _number(text)
    if kind is Kind.MOMENT:
        if old and text == on_the_clock(old, zone):
            return old  # the same moment, however it was written
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return text
        return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))).isoformat()
    return text


def _number(text: str) -> int | str:
    bare = text.replace(" ", "")
    # Longer ones are out of every bound; the schema says so of the text as well.
    return int(bare) if re.fullmatch(r"-?[0-9]{1,18}", bare, re.ASCII) else text


def _typed_rows(
    one: Field, shape: Shape, name: str, old: list[Any], posted: MultiDict[str, str]
) -> list[int | str]:
    """A row may hold several, as they are pasted. Each is taken once."""
    drop = posted.get("drop", "")
    found: dict[int | str, None] = {}
    for index, row in enumerate(posted.getlist(name)):
        if drop == f"{name}:{index}":
            continue
        for item in _SPLIT.split(row.strip()):
            if item:
                found.setdefault(_number(item) if shape.numbers else item)
    kept = old[MAX_ROWS:] if posted.get(f"{name}.kept") else []
    return [*found, *(item for item in kept if item not in found)]


def _typed_groups(zone: str, one: Field, shape: Shape, name: str, posted: MultiDict[str, str]) -> list[Plain]:
    if shape.model is None:
        return []
    count = posted.get(f"{name}.count", "0")
    found = []
    for index in range(min(int(count), MAX_ROWS) if count.isdecimal() else 0):
        if posted.get("drop") == f"{name}:{index}":
            continue
        entry = read(one.fields, shape.model, {}, posted, f"{name}.{index}.", zone)
        if any(entry.values()):
            found.append(entry)
    return found
