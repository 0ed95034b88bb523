"""What a page has to know of one list of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from webui.forms.layout import Part
from webui.forms.plain import Plain


@dataclass(frozen=True, slots=True)
class Column:
    """``cell`` makes its text from an entry."""

    label: str
    cell: Callable[[Plain], str]
    mono: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A list of named entries, its pages under ``url``."""

    key: str  # of its addresses within the console
    path: tuple[str, ...]
    model: type[BaseModel]
    url: str
    area: str  # whose tabs it is among
    title: str
    one: str  # "rule"
    about: str
    parts: tuple[Part, ...]
    columns: tuple[Column, ...] = ()
    under: Callable[[Plain], str] | None = None  # a line under the name
    empty: str = ""  # what it means that there is none
    identity: str = "name"
    template: str = "entries.html"
    fresh: Mapping[str, Any] = field(default_factory=dict)  # of a new entry
    # Where other entries name those of this one: (list, setting).
    spoken_of: tuple[tuple[str, str], ...] = ()
    keep_one: str = ""  # why the last one cannot go
