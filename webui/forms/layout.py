"""How a page words its fields, and what a template is given to draw them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from webui.forms.shape import Shape

# For a field whose label says all: without it the schema's help is shown.
NO_HINT = "-"


@dataclass(frozen=True, slots=True)
class Field:
    """One setting. ``label`` and what else is text for people goes through gettext where it is drawn."""

    name: str  # as in the model; "timers.udp" for one inside a table
    label: str
    hint: str = ""
    unit: str = ""
    placeholder: str = ""
    words: Mapping[str, str] = field(default_factory=dict)  # for each choice
    refers: str = ""  # the table whose names it takes
    mono: bool = False  # addresses, names and patterns
    when: str = ""  # "mode=static": shown while that field of the part has that value
    fields: tuple[Field, ...] = ()  # of a list of tables
    row: str = ""  # what one row is called: "domain"
    pair: bool = False  # half as wide, beside the next one


@dataclass(frozen=True, slots=True)
class Part:
    """Some settings under one heading. ``root`` is the section they are in, "" for an entry of a list."""

    title: str
    fields: tuple[Field, ...]
    root: str = ""
    about: str = ""
    advanced: bool = False
    tint: str = ""  # "6" LAN, "4" WAN
    icon: str = ""


@dataclass(frozen=True, slots=True)
class Root:
    """Where a part's settings are: the path in the configuration, and its model."""

    path: tuple[str | int, ...]
    model: type[BaseModel]

    @property
    def at(self) -> str:
        """As a problem's path has it: "wan", "rule[3]"."""
        text = ""
        for step in self.path:
            text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
        return text


@dataclass(frozen=True, slots=True)
class Option:
    """One choice."""

    value: str
    words: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of a list."""

    value: str
    error: str = ""
    focus: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """A field as it is drawn. ``name`` is the input's; ``focus``: it is the first one with an error."""

    field: Field
    shape: Shape
    name: str
    value: Any = ""
    options: tuple[Option, ...] = ()
    rows: tuple[Row, ...] = ()
    kept: int = 0  # entries of a long list that the page leaves out, and keeps
    groups: tuple[tuple[Shown, ...], ...] = ()
    suggestions: tuple[str, ...] = ()
    error: str = ""
    focus: bool = False
    was: str | None = None  # the running value, where this one differs
    default: str = ""  # in words, where the value differs from it
    when: str = ""  # the input's name and the value while which it is shown
    hint: str = ""  # what the setting is for

    @property
    def id(self) -> str:
        """For its label."""
        return "f-" + self.name.replace(".", "-")

    @property
    def wrong(self) -> bool:
        """Whether there is an error in it."""
        inside = any(one.wrong for group in self.groups for one in group)
        return bool(self.error) or any(row.error for row in self.rows) or inside

    @property
    def described(self) -> str:
        """Ids of what describes it."""
        parts = [
            f"{self.id}-e" if self.error else "",
            f"{self.id}-w" if self.was is not None else "",
            f"{self.id}-h" if self.hint else "",
        ]
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class ShownPart:
    """A part as it is drawn. ``differing``: how many of its settings are not at their default."""

    part: Part
    fields: tuple[Shown, ...]
    differing: int = 0
    more: tuple[ShownPart, ...] = ()  # advanced parts, at its foot

    @property
    def open(self) -> bool:
        """Advanced settings are shown at once where one of them is wrong or changed."""
        return any(shown.wrong or shown.was is not None for shown in self.fields)
