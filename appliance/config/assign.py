"""Settings given as words, as on a command line: made into values by the schema, and put where they belong.

Each function takes a plain configuration and gives another one; what it is given stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from appliance.config.help import Help, children, help_of, model_of
from appliance.config.paths import KEYS, Part, Parts, PathError, Plain, joined, key_of, place, split, value_at
from appliance.errors import IsthmusError

YES, NO = frozenset({"true", "yes", "on"}), frozenset({"false", "no", "off"})
# Names in a hint.
MAX_NAMED = 10


class AssignError(IsthmusError):
    """The words are no value of that setting, or the change makes no sense there."""

    code = "no-such-value"


def value_of(setting: Help, words: Sequence[str]) -> Any:
    """The value that the words mean; AssignError where they mean none."""
    if setting.kind == "table":
        raise AssignError(
            f"“{setting.path}” is a table, not a setting",
            f"Its settings: {', '.join(one.path.rpartition('.')[2] for one in children(setting.path))}.",
        )
    if setting.path.rpartition(".")[2] == "password":
        raise AssignError("A password is not set here", "`isthmus user passwd NAME` asks for it.")
    if setting.many:
        return [_one(setting, word) for word in words]
    if len(words) != 1:
        raise AssignError(
            f"“{setting.path}” takes one value, not {len(words)}", "Quote it where it has spaces."
        )
    return _one(setting, words[0])


def _one(setting: Help, word: str) -> Any:
    if setting.kind == "number":
        if not word.removeprefix("-").isdecimal():
            raise AssignError(f"“{word}” is no whole number", _range(setting))
        return int(word)
    if setting.kind == "bool":
        if word.lower() not in YES | NO:
            raise AssignError(f"“{word}” is neither true nor false", "")
        return word.lower() in YES
    if setting.kind == "choice" and word not in setting.choices:
        raise AssignError(f"“{word}” is none of its values", f"There is: {', '.join(setting.choices)}.")
    return word


def _range(setting: Help) -> str:
    if setting.minimum is None or setting.maximum is None:
        return ""
    return f"{setting.minimum} to {setting.maximum}."


def assigned(plain: Plain, path: str, words: Sequence[str]) -> Plain:
    """With the setting at ``path`` set."""
    value = value_of(help_of(path), words)
    out, table, name = _table(plain, split(path))
    table[name] = value
    return out


def unset(plain: Plain, path: str) -> Plain:
    """With the setting, or a whole table of settings, at its default."""
    parts = split(path)
    if value_at(plain, parts[:-1]).__class__ is list:
        raise AssignError(f"“{path}” is an entry of a list", f"`isthmus remove {path}` removes it.")
    setting = help_of(path)
    if setting.required:
        raise AssignError(f"“{setting.path}” has to have a value", "Remove the entry, or set another value.")
    out, table, name = _table(plain, parts)
    table.pop(name, None)
    return out


def added(plain: Plain, path: str, words: Sequence[str], beside: tuple[str, str] | None = None) -> Plain:
    """With an entry in a list of tables, or with more values in a list of values.

    An entry's words are KEY=VALUE, of a list of values VALUE,VALUE…; the first word may be its name alone.
    ``beside``: ("before" or "after", another entry's name); else it comes last.
    """
    setting = help_of(path)
    if not setting.many:
        raise AssignError(f"“{path}” is no list", f"`isthmus set {path} VALUE` sets it.")
    if isinstance(value_at(plain, split(path)[:-1]), list):
        raise AssignError(f"“{path}” is an entry of a list", f"`isthmus set {path}.… VALUE` changes it.")
    if setting.kind != "table":
        out, table, name = _table(plain, split(path))
        now = list(table.get(name, ()))
        table[name] = [*now, *(one for one in value_of(setting, words) if one not in now)]
        return out
    entry = _entry(setting, words)
    out, table, name = _table(plain, split(path))
    entries = table.setdefault(name, [])
    key = next((key for key in KEYS if key in entry), None)
    if key is not None and place(entries, entry[key]) is not None:
        where = joined((*split(path), entry[key]))
        raise AssignError(
            f"There is {path} “{entry[key]}” already", f"`isthmus set {where}.… VALUE` changes it."
        )
    entries.insert(_position(path, entries, beside), entry)
    return out


def _entry(setting: Help, words: Sequence[str]) -> Plain:
    known = {one.path.rpartition(".")[2]: one for one in children(setting.path)}
    entry: Plain = {}
    for index, word in enumerate(words):
        key, equals, text = word.partition("=")
        if not equals and index == 0:
            key = next((one for one in KEYS if one in known), "")
            text = word
        if key not in known or (not equals and index):
            raise AssignError(f"“{word}” is no setting of {setting.path}", f"There is: {', '.join(known)}.")
        one = known[key]
        if one.kind == "table":
            raise AssignError(f"“{key}” is a list of tables", f"Add to it later: `isthmus add {one.path} …`.")
        entry[key] = value_of(one, [part for part in text.split(",") if part] if one.many else [text])
    return entry


def removed(plain: Plain, path: str, words: Sequence[str] = ()) -> Plain:
    """Without an entry of a list of tables, or without these values of a list of values."""
    parts = split(path)
    setting = help_of(path)
    entries = value_at(plain, parts[:-1]) if parts else None
    if isinstance(entries, list) and setting.kind == "table":
        if words:
            raise AssignError("An entry is removed whole", f"`isthmus remove {path}`, without more.")
        out = copy.deepcopy(plain)
        value_at(out, parts[:-1]).pop(_place(parts, entries))
        return out
    if not setting.many or setting.kind == "table":
        hint = (
            f"`isthmus remove {path}.NAME`." if setting.many else f"`isthmus unset {path}` sets its default."
        )
        raise AssignError(f"“{path}” is no entry of a list, and no list of values", hint)
    out, table, name = _table(plain, parts)
    now = list(table.get(name, ()))
    if not words:
        raise AssignError("Say which values are to be removed", f"`isthmus unset {path}` removes all.")
    for value in value_of(setting, words):
        if value not in now:
            raise AssignError(f"“{value}” is not in {path}", f"There is: {_names(now)}.")
        now.remove(value)
    table[name] = now
    return out


def moved(plain: Plain, path: str, beside: tuple[str, str] | None) -> Plain:
    """With an entry before or after another one; else last."""
    parts = split(path)
    out = copy.deepcopy(plain)
    entries = value_at(out, parts[:-1]) if parts else None
    if not isinstance(entries, list):
        raise AssignError(f"“{path}” is no entry of a list", "`isthmus move rule.no-ads --before all`, say.")
    entry = entries.pop(_place(parts, entries))
    entries.insert(_position(joined(parts[:-1]), entries, beside), entry)
    return out


def _position(path: str, entries: list[Any], beside: tuple[str, str] | None) -> int:
    if beside is None:
        return len(entries)
    where, name = beside
    if not entries:
        raise PathError(f"There is no {path} “{name}”", "There is no other than the one that is moved.")
    return _place((*split(path), name), entries) + (where == "after")


def _place(parts: Parts, entries: list[Any]) -> int:
    found = place(entries, parts[-1])
    if found is None:
        key = key_of(entries)
        names = _names([entry[key] for entry in entries]) if key else f"[0] to [{len(entries) - 1}]"
        raise PathError(
            f"There is no {joined(parts[:-1])} “{parts[-1]}”",
            f"There is: {names}." if entries else f"The list is empty: `isthmus add {joined(parts[:-1])} …`.",
        )
    return found


def _names(values: Sequence[Any]) -> str:
    return (
        ", ".join(str(one) for one in values[:MAX_NAMED]) + (" …" if len(values) > MAX_NAMED else "")
        or "none"
    )


def _table(plain: Plain, parts: tuple[Part, ...]) -> tuple[Plain, Plain, str]:
    """A copy of the configuration, the table in it that the last part is a setting of, and that part."""
    help_of(joined(parts))
    out = copy.deepcopy(plain)
    here: Any = out
    for index, part in enumerate(parts[:-1]):
        if isinstance(here, list):
            here = here[_place(parts[: index + 1], here)]
        else:
            many = help_of(joined(parts[: index + 1])).many
            here = here.setdefault(part, [] if many else {})
    name = parts[-1]
    if not isinstance(name, str):
        raise AssignError("A list of values is set whole", f"`isthmus set {joined(parts[:-1])} VALUE…`.")
    if isinstance(here, list):
        raise AssignError(
            f"“{joined(parts)}” says nothing of which entry", f"Write {joined(parts[:-1])}.NAME.{name}."
        )
    return out, here, name


def completions(plain: Plain, path: str) -> list[str]:
    """The paths that begin with these signs, one part further; a table's end with a dot."""
    head, dot, _tail = path.rpartition(".")
    try:
        parts = split(head)
        model = model_of(head) if head else model_of("")
    except PathError:
        return []
    if model is None:
        return []
    here = value_at(plain, parts)
    out = []
    if isinstance(here, list):
        key = key_of(here)
        out = [joined((*parts, entry[key])) + "." for entry in here] if key else []
    else:
        for one in children(head):
            name = joined((*parts, one.path.rpartition(".")[2]))
            out.append(f"{name}." if one.kind == "table" else name)
    return [one for one in out if one.startswith(path)]
