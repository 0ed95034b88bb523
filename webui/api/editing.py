"""A configuration changed at one path by JSON. Pure; what is given stays as it is."""

from __future__ import annotations

import copy
from typing import Any

from appliance.config.assign import removed, unset
from appliance.config.help import help_of
from appliance.config.paths import KEYS, PathError, Plain, joined, place, split, value_at
from appliance.errors import Problem
from webui.forms.plain import problems


def found(plain: Plain, path: str) -> Any:
    """What is there, None for what is not set; PathError where there is no such setting or entry."""
    parts = split(path)
    help_of(path)
    value = value_at(plain, parts)
    if value is None and (not parts or value_at(plain, parts[:-1]) is None or isinstance(parts[-1], int)):
        raise PathError(f"There is no {path}", "GET /config shows all that there is.")
    if value is None and isinstance(value_at(plain, parts[:-1]), list):
        raise PathError(
            f"There is no entry {path}", f"GET /config/{joined(parts[:-1])} shows those there are."
        )
    return value


def put(plain: Plain, path: str, value: Any) -> Plain:
    """With ``value`` there: a setting, a table, a list, or an entry, which is added where there is none."""
    parts = split(path)
    help_of(path)
    out = copy.deepcopy(plain)
    if not parts:
        raise PathError("The path is empty", "PUT /candidate/config replaces the whole.")
    holder: Any = value_at(out, parts[:-1]) if len(parts) > 1 else out
    if holder is None and len(parts) > 1 and not isinstance(value_at(out, parts[:-2]), list):
        out = put(out, joined(parts[:-1]), {})
        holder = value_at(out, parts[:-1])
    last = parts[-1]
    if isinstance(holder, list):
        index = place(holder, last)
        if isinstance(value, dict) and isinstance(last, str) and not any(key in value for key in KEYS):
            value = {_key(joined(parts[:-1])): last, **value}
        if index is not None:
            holder[index] = value
        elif isinstance(last, int):
            raise PathError(f"There is no {path}", "An entry is added by its name.")
        else:
            holder.append(value)
    elif isinstance(holder, dict) and isinstance(last, str):
        holder[last] = value
    else:
        raise PathError(f"There is no {joined(parts[:-1])}", "GET /config shows all that there is.")
    return out


def _key(table: str) -> str:
    """By what the entries of a list go."""
    from appliance.config.help import children

    known = {one.path.rpartition(".")[2] for one in children(table)}
    return next(key for key in KEYS if key in known)


def patch(plain: Plain, path: str, change: dict[str, Any]) -> Plain:
    """The table there, changed by a merge patch (RFC 7396)."""
    before = found(plain, path)
    if not isinstance(before, dict):
        raise PathError(f"{path} is no table", "PUT replaces a setting.")
    return put(plain, path, merged(before, change))


def merged(target: Any, change: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(change, dict):
        return change
    out = dict(target) if isinstance(target, dict) else {}
    for name, value in change.items():
        if value is None:
            out.pop(name, None)
        else:
            out[name] = merged(out.get(name), value)
    return out


def without(plain: Plain, path: str) -> Plain:
    """Without an entry of a list; or with a setting, or a table, at its default."""
    found(plain, path)
    parts = split(path)
    if isinstance(value_at(plain, parts[:-1]), list):
        return removed(plain, path)
    return unset(plain, path)


def brought(before: Plain, after: Plain, path: str) -> list[Problem]:
    """The problems that a change at ``path`` brought, but for those that others may yet settle."""
    known = {(one.path, one.message) for one in problems(before)}
    here = help_of(path).path if path else ""
    return [
        one
        for one in problems(after)
        if (one.path, one.message) not in known
        and one.code != "conflict"
        and _general(one.path).startswith(here)
    ]


def _general(path: str) -> str:
    try:
        return help_of(path).path
    except PathError:
        return path
