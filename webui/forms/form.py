"""A form: from the configuration to what is drawn, and from what was typed back to the configuration."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from werkzeug.datastructures import MultiDict

from appliance.config.help import help_of
from appliance.config.paths import PathError
from appliance.errors import Problem
from webui.forms.layout import NO_HINT, Field, Option, Part, Root, Row, Shown, ShownPart
from webui.forms.plain import Plain, at, replaced, steps, token
from webui.forms.reading import MAX_ROWS, on_the_clock, read
from webui.forms.shape import Kind, Shape, shape_of
from webui.words import _, later

# Names to choose from as boxes to tick; above, they are typed, with suggestions.
MAX_BOXES = 24
MAX_SUGGESTIONS = 200
_ADDED = 3  # empty rows for each "one more"
_INDEX = re.compile(r"\[(\d+)\]")
_TOLD = re.compile(r" \(It is .*\)$")
# Where pydantic's own words are for programmers, and a union of two says each of its arms' refusals.
_NO_NETWORK = later("This is no network: write 192.0.2.0/24 or 2001:db8::/32, with zeros after the prefix.")
_BY_CODE = {
    "ip_v4_network": _NO_NETWORK,
    "ip_v6_network": _NO_NETWORK,
    "ip_v4_interface": later("This is no IPv4 address with its prefix length: write 192.0.2.2/24."),
    "datetime_from_date_parsing": later("This is no date with a time."),
    "datetime_parsing": later("This is no date with a time."),
}


@dataclass(frozen=True, slots=True)
class Form:
    """Parts over a configuration. ``active`` is the running one, to tell what is changed."""

    parts: tuple[Part, ...]
    roots: Mapping[str, Root]
    config: Plain
    active: Plain | None = None
    zone: str = "UTC"
    more: frozenset[str] = field(default_factory=frozenset)  # lists that get more empty rows
    suggested: Mapping[str, Sequence[str]] = field(default_factory=dict)  # beside the names of tables
    stored: Plain | None = None  # the configuration before what was typed

    def token(self) -> str:
        """Of all that this form edits, as it is."""
        return token([at(self.config, root.path) for root in self.roots.values()])

    def shown(self, problems: Iterable[Problem] = ()) -> list[ShownPart]:
        """What the template draws."""
        errors = list(problems)
        found: list[ShownPart] = []
        focus = True
        for part in self.parts:
            root = self.roots[part.root]
            values = at(self.config, root.path, {})
            drawn = []
            differing = 0
            for one in part.fields:
                shown = self._shown(one, root, values, part.root, errors, focus)
                focus = focus and not shown.wrong
                differing += bool(shown.default)
                drawn.append(shown)
            shown_part = ShownPart(part, tuple(drawn), differing)
            if part.advanced and found:
                found[-1] = replace(found[-1], more=(*found[-1].more, shown_part))
            else:
                found.append(shown_part)
        return found

    def _shown(
        self, one: Field, root: Root, values: Plain, prefix: str, problems: Sequence[Problem], focus: bool
    ) -> Shown:
        shape = shape_of(root.model, one.name)
        path = (*root.path, *steps(one.name))
        value = at(values, steps(one.name))
        name = f"{prefix}.{one.name}" if prefix else one.name
        whole, rows = _errors(problems, Root(path, root.model).at, one)
        drawn = _drawn(
            self, one, shape, _Place(name, rows, focus and not whole, self._kept(path, value)), value
        )
        was = None
        if self.active is not None:
            running = self._running(path)
            if running is not _NOTHING and running != value:
                was = in_words(one, shape, running)
        default = ""
        if shape.default not in (None, [], "") and value != shape.default and shape.kind is not Kind.GROUPS:
            default = in_words(one, shape, shape.default)
        when = ""
        if one.when:
            other, _equals, wanted = one.when.partition("=")
            when = f"{prefix}.{other}={wanted}" if prefix else f"{other}={wanted}"
        return replace(
            drawn, error=whole, focus=bool(whole) and focus, was=was, default=default, when=when,
            hint=_hint(one, path),
        )  # fmt: skip

    def _kept(self, path: tuple[str | int, ...], value: Any) -> int:
        """How many entries at a long list's end the page leaves out: never one that was just typed."""
        if not isinstance(value, list) or len(value) <= MAX_ROWS:
            return 0
        before = value if self.stored is None else at(self.stored, path, [])
        tail = before[MAX_ROWS:]
        return len(tail) if tail and value[-len(tail) :] == tail else 0

    def _running(self, path: tuple[str | int, ...]) -> Any:
        """The running value; of an entry of a list that of the entry with the same name."""
        if self.active is None:
            return _NOTHING
        place: Any = self.active
        here: Any = self.config
        for step in path:
            if isinstance(step, int):
                name = at(here, (step, "name"))
                place = next((e for e in place or [] if name and e.get("name") == name), _NOTHING)
                if place is _NOTHING:
                    return _NOTHING
            else:
                place = place.get(step) if isinstance(place, dict) else None
            here = at(here, (step,))
        return place

    def unplaced(self, problems: Iterable[Problem]) -> list[Problem]:
        """Those below this form's roots that none of its fields shows."""
        ours = [(root, part.fields) for part in self.parts for root in [self.roots[part.root]]]
        found = []
        for problem in problems:
            if not any(_below(problem.path, root.at) for root, _fields in ours):
                continue
            placed = any(
                _below(problem.path, Root((*root.path, *steps(one.name)), root.model).at)
                for root, fields in ours
                for one in fields
            )
            if not placed:
                found.append(problem)
        return found

    def ours(self, problems: Iterable[Problem]) -> list[Problem]:
        """Those about something that this form edits."""
        return [p for p in problems if any(_below(p.path, root.at) for root in self.roots.values())]

    def typed(self, posted: MultiDict[str, str]) -> Form:
        """The form over the configuration with what was typed."""
        config = self.config
        for part in self.parts:
            root = self.roots[part.root]
            values = at(config, root.path, {})
            prefix = f"{part.root}." if part.root else ""
            values = read(part.fields, root.model, values, posted, prefix, self.zone)
            config = replaced(config, root.path, values)
        more = frozenset(posted.getlist("more"))
        return replace(self, config=config, more=more, stored=self.config)

    def names(self, table: str) -> list[str]:
        """The names that a field may refer to."""
        if table in self.suggested:
            return list(self.suggested[table])
        return [str(entry.get("name", "")) for entry in self.config.get(table, [])]


_NOTHING = object()


def _below(path: str, place: str) -> bool:
    rest = path[len(place) :]
    return path.startswith(place) and (not rest or rest[0] in ".[")


def _errors(problems: Iterable[Problem], place: str, one: Field) -> tuple[str, dict[str, str]]:
    """(about the whole field, about its parts by the rest of the path)."""
    whole = ""
    parts: dict[str, str] = {}
    for problem in problems:
        if not _below(problem.path, place):
            continue
        rest = problem.path[len(place) :]
        words = sentence(problem, one.label)
        if rest and not rest.startswith("."):
            parts.setdefault(rest, words)
        else:  # what follows a dot names an arm of a union, not a setting
            whole = whole or words
    return whole, parts


def sentence(problem: Problem, label: str) -> str:
    """What is wrong, without what its author sees anyway."""
    if problem.code in _BY_CODE:
        return _(_BY_CODE[problem.code])
    text = _TOLD.sub("", problem.message)
    if text.startswith(("is ", "has ", "needs ")):
        return f"{_(label)} {text}"
    return text[:1].upper() + text[1:]


@cache
def _of_schema(path: str) -> str:
    try:
        return help_of(path).text
    except PathError:
        return ""


def _hint(one: Field, path: Sequence[str | int]) -> str:
    """The page's own words, or else the schema's."""
    if one.hint == NO_HINT:
        return ""
    return _(one.hint) or _of_schema(".".join(step for step in path if isinstance(step, str)))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a field is drawn. ``errors``: of its parts; ``focus``: none before has an error."""

    name: str
    errors: Mapping[str, str]
    focus: bool
    kept: int = 0  # entries at the end of a long list that are not shown


def _drawn(form: Form, one: Field, shape: Shape, place: _Place, value: Any) -> Shown:
    kind, name = shape.kind, place.name
    if kind is Kind.GROUPS:
        return Shown(one, shape, name, groups=_groups(form, one, shape, place, value or []))
    if kind is Kind.ROWS:
        chosen = [str(item) for item in value or []]
        names = form.names(one.refers) if one.refers else []
        if one.refers and len(names) <= MAX_BOXES and set(chosen) <= set(names) and not place.errors:
            boxes = tuple(Option(item, item, item in chosen) for item in names)
            return Shown(one, shape, name, options=boxes)
        return _rows(form, one, shape, place, chosen, names)
    if kind is Kind.SEVERAL:
        options = [Option(c, _(one.words.get(c, c)), c in (value or [])) for c in shape.choices]
        return Shown(one, shape, name, options=tuple(options))
    if kind is Kind.CHOICE:
        options = [Option(c, _(one.words.get(c, c)), c == value) for c in shape.choices]
        return Shown(one, shape, name, value=value, options=tuple(options))
    if kind is Kind.MOMENT:
        return Shown(one, shape, name, value=on_the_clock(value, form.zone))
    suggestions = tuple(form.names(one.refers)) if one.refers else ()
    return Shown(one, shape, name, value="" if value is None else value, suggestions=suggestions)


def _rows(form: Form, one: Field, shape: Shape, place: _Place, chosen: list[str], names: list[str]) -> Shown:
    at_fault: dict[int, str] = {}
    for rest, words in place.errors.items():
        index = _INDEX.match(rest)
        if index:
            at_fault.setdefault(int(index[1]), words)
    lowest = min(at_fault, default=-1) if place.focus else -1
    visible = chosen[: len(chosen) - place.kept]
    rows = [Row(v, at_fault.get(i, ""), i == lowest) for i, v in enumerate(visible)]
    rows += [Row("")] * (_ADDED if place.name in form.more else 0 if rows else 1)
    return Shown(
        one, shape, place.name, rows=tuple(rows), kept=place.kept, suggestions=tuple(names[:MAX_SUGGESTIONS])
    )


def _groups(
    form: Form, one: Field, shape: Shape, place: _Place, value: list[Plain]
) -> tuple[tuple[Shown, ...], ...]:
    if shape.model is None:
        return ()
    found = []
    focus = place.focus
    entries = [*value, {}] if place.name in form.more else value
    for index, entry in enumerate(entries):
        drawn = []
        for inner in one.fields:
            below = shape_of(shape.model, inner.name)
            path = f"[{index}].{inner.name}"
            rest = {p[len(path) :]: words for p, words in place.errors.items() if _below(p, path)}
            inside = _Place(f"{place.name}.{index}.{inner.name}", rest, focus)
            made = _drawn(form, inner, below, inside, entry.get(inner.name))
            focus = focus and not rest
            drawn.append(replace(made, error=rest.get("", "")))
        found.append(tuple(drawn))
    return tuple(found)


def in_words(one: Field, shape: Shape, value: Any) -> str:
    """A value as a person reads it, on one line."""
    if value is None or value == [] or value == "":
        return _("none")
    if isinstance(value, bool):
        return _("on") if value else _("off")
    if isinstance(value, list):
        shown = [str(one.words.get(str(item), item)) for item in value if not isinstance(item, dict)]
        if len(shown) != len(value):
            return _("%(num)s entries", num=len(value))
        return ", ".join(shown[:6]) + (_(" and %(num)s more", num=len(shown) - 6) if len(shown) > 6 else "")
    words = _(one.words[str(value)]) if str(value) in one.words else str(value)
    return f"{words} {_(one.unit)}" if one.unit and shape.kind is Kind.NUMBER else words
