"""What two configurations differ in, and three merged to one: by path, entries of lists by their name.

All take *plain* configurations: what TOML can hold, as ``schema.as_plain`` gives it. Text is for people.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from appliance.config.paths import Part, Parts, Plain, joined, key_of

Kind = Literal["set", "add", "remove", "order"]

# Of a value's text. Less would cut a long list of names that somebody wants to compare; much more is no diff
# that anybody reads, and a list may have 65,536 names.
MAX_SHOWN = 2_000
# Settings whose value nobody is shown.
SECRET = frozenset({"password", "metrics_token"})

_ABSENT: Any = object()


@dataclass(frozen=True, slots=True)
class Change:
    """One difference; ``before`` and ``after`` as people read them, None where there is nothing."""

    path: str
    kind: Kind
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Clash:
    """A setting that two changed, each otherwise."""

    path: str
    base: str | None
    mine: str | None
    theirs: str | None


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of a merge; where something clashes it holds what ``merge`` was told to prefer."""

    plain: Plain
    clashes: tuple[Clash, ...]


def shown(value: Any, name: str = "") -> str:
    """A value in TOML's manner; of a table what is set in it, and no hash."""
    text = _written(value, name)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _written(value: Any, name: str = "") -> str:
    if name in SECRET:
        return "(not shown)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, Mapping):
        # What is empty is not set.
        settings = (f"{key} = {_written(one, key)}" for key, one in value.items() if one not in ([], ""))
        return ", ".join(settings)
    if isinstance(value, list):
        ends = "{}" if value and isinstance(value[0], Mapping) else ("", "")
        return "[" + ", ".join(f"{ends[0]}{_written(one)}{ends[1]}" for one in value) + "]"
    return str(value)


def changes(before: Plain, after: Plain) -> list[Change]:
    """What leads from one to the other, in the order of the file."""
    return list(_changes((), before, after))


def _changes(path: Parts, before: Any, after: Any) -> Iterator[Change]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in [*before, *(name for name in after if name not in before)]:
            yield from _changes((*path, name), before.get(name, _ABSENT), after.get(name, _ABSENT))
        return
    key = _common_key(before, after)
    if key is not None:
        yield from _entry_changes(path, key, _list(before), _list(after))
        return
    name = str(path[-1])
    table = isinstance(before, Mapping) or isinstance(after, Mapping)
    kind: Kind = "set" if not table else "add" if before is _ABSENT else "remove"
    yield Change(joined(path), kind, _shown(before, name), _shown(after, name))


def _entry_changes(path: Parts, key: str, before: list[Plain], after: list[Plain]) -> Iterator[Change]:
    old, new = {e[key]: e for e in before}, {e[key]: e for e in after}
    for name in [*old, *(name for name in new if name not in old)]:
        yield from _changes((*path, name), old.get(name, _ABSENT), new.get(name, _ABSENT))
    stayed, stay = [n for n in old if n in new], [n for n in new if n in old]
    if stayed != stay:
        yield Change(joined(path), "order", shown(stayed), shown(stay))


def _shown(value: Any, name: str) -> str | None:
    return None if value is _ABSENT else shown(value, name)


def _list(value: Any) -> list[Plain]:
    return [] if value is _ABSENT else value


def _common_key(*values: Any) -> str | None:
    """The key of all these lists, of which some may be empty or absent; None where they have none."""
    full = [value for value in values if value is not _ABSENT and value != []]
    keys = {key_of(value) for value in full}
    return keys.pop() if len(keys) == 1 else None


def merge(base: Plain, mine: Plain, theirs: Plain, keep_mine: Collection[str] | None = None) -> Merged:
    """What both made of ``base``.

    Where they clash it is mine; with ``keep_mine`` only at its paths, and theirs at all others.
    """
    merger = _Merger(lambda path: keep_mine is None or path in keep_mine)
    return Merged(merger.merged((), base, mine, theirs), tuple(merger.clashes))


class _Merger:
    def __init__(self, keeps_mine: Callable[[str], bool]) -> None:
        self._keeps_mine = keeps_mine
        self.clashes: list[Clash] = []

    def merged(self, path: Parts, base: Any, mine: Any, theirs: Any) -> Any:
        if mine == theirs or theirs == base:
            return mine
        if mine == base:
            return theirs
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            return self._tables(path, base if isinstance(base, Mapping) else {}, mine, theirs)
        key = _common_key(base, mine, theirs)
        if key is not None and mine is not _ABSENT and theirs is not _ABSENT:
            return self._entries(path, key, _list(base), mine, theirs)
        return self._clash(path, base, mine, theirs)

    def _clash(self, path: Parts, base: Any, mine: Any, theirs: Any) -> Any:
        name, where = str(path[-1]), joined(path)
        self.clashes.append(Clash(where, *(_shown(value, name) for value in (base, mine, theirs))))
        return mine if self._keeps_mine(where) else theirs

    def _tables(
        self, path: Parts, base: Mapping[str, Any], mine: Mapping[str, Any], theirs: Mapping[str, Any]
    ) -> Plain:
        out = {}
        for name in [*theirs, *(name for name in mine if name not in theirs)]:
            values = (side.get(name, _ABSENT) for side in (base, mine, theirs))
            value = self.merged((*path, name), *values)
            if value is not _ABSENT:
                out[name] = value
        return out

    def _entries(
        self, path: Parts, key: str, base: list[Plain], mine: list[Plain], theirs: list[Plain]
    ) -> list[Plain]:
        sides = [{entry[key]: entry for entry in side} for side in (base, mine, theirs)]
        found: dict[str, Plain] = {}
        for name in dict.fromkeys(name for side in sides for name in side):
            value = self.merged((*path, name), *(side.get(name, _ABSENT) for side in sides))
            if value is not _ABSENT:
                found[name] = value
        order = self._order(path, [list(side) for side in sides])
        return [found[name] for name in order if name in found]

    def _order(self, path: Parts, sides: list[list[str]]) -> list[str]:
        """All names: in the order of who changed it, the other's additions behind what they stood behind."""
        base, mine, theirs = sides
        common = set(base) & set(mine) & set(theirs)
        was, by_me, by_them = ([name for name in side if name in common] for side in sides)
        lead, other = theirs, mine
        if by_me not in (was, by_them):
            lead, other = mine, theirs
            if by_them != was:
                lead = self._clash((*path, _ORDER), was, by_me, by_them)
                lead, other = (mine, theirs) if lead is by_me else (theirs, mine)
        known = set(lead)
        behind: dict[str | None, list[str]] = {}
        before: str | None = None
        for name in other:
            if name in known:
                before = name
            else:
                behind.setdefault(before, []).append(name)
        out = behind.get(None, [])
        for name in lead:
            out += [name, *behind.get(name, ())]
        return out


# In the place of an entry's name, for the order of them all.
_ORDER: Part = "(order)"
