"""Paths of settings: "lan.prefix", "rule.no-ads.action", 'user."ann@home.example".groups', "rule[3].action".

A *table* holds settings, an *entry* is a table of a list. Entries go by their key (the name, of a translation
its prefix) or by their place in the list. A list of plain values is one setting.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from appliance.errors import IsthmusError

Part = str | int
Parts = tuple[Part, ...]
Plain = dict[str, Any]

# What an entry goes by: the first of these that each entry of the list has.
KEYS = ("name", "prefix")
# Ours have six at most.
MAX_PARTS = 16

_PART = re.compile(r'(?P<dot>\.)?(?:(?P<bare>[^."\[\]\s]+)|"(?P<quoted>[^"]*)"|\[(?P<index>[0-9]{1,6})\])')
_BARE = re.compile(r'[^."\[\]\s]+')


class PathError(IsthmusError):
    """There is no such setting, or the path is not written as one."""

    code = "no-such-setting"


def split(path: str) -> Parts:
    """The parts of a path; "" has none. PathError where it is none."""
    parts: list[Part] = []
    at = 0
    while at < len(path):
        found = _PART.match(path, at)
        # A dot stands between two parts, and before no index.
        wants_dot = bool(parts) and path[at] != "["
        if found is None or bool(found["dot"]) != wants_dot or (found["dot"] and found["index"]):
            raise PathError(
                f"“{path}” is no path, from “{path[at:]}” on",
                'Write it as lan.prefix, rule.no-ads.action or user."ann@home.example".groups.',
            )
        if found["index"] is not None:
            parts.append(int(found["index"]))
        else:
            parts.append(found["bare"] if found["bare"] is not None else found["quoted"])
        at = found.end()
        if len(parts) > MAX_PARTS:
            raise PathError(f"“{path[:80]}…” has too many parts", f"No setting has more than {MAX_PARTS}.")
    return tuple(parts)


def joined(parts: Iterable[Part]) -> str:
    """The path of these parts; ``split`` gives them back."""
    out = ""
    for part in parts:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            word = part if _BARE.fullmatch(part) else f'"{part}"'
            out += f".{word}" if out else word
    return out


def key_of(entries: object) -> str | None:
    """By what the entries of a list of tables are told apart; None: by nothing, or it is no such list."""
    if not isinstance(entries, list) or not entries:
        return None
    for key in KEYS:
        if all(isinstance(entry, Mapping) and isinstance(entry.get(key), str) for entry in entries):
            unique = len({entry[key] for entry in entries}) == len(entries)
            return key if unique else None
    return None


def place(entries: list[Any], part: Part) -> int | None:
    """Where the entry is that ``part`` means; None where there is none."""
    if isinstance(part, int):
        return part if part < len(entries) else None
    for index, entry in enumerate(entries):
        if isinstance(entry, Mapping) and any(entry.get(key) == part for key in KEYS):
            return index
    return None


def value_at(plain: object, parts: Iterable[Part]) -> Any:
    """What stands there; None where nothing does."""
    for part in parts:
        if isinstance(plain, list):
            index = place(plain, part)
            plain = None if index is None else plain[index]
        elif isinstance(plain, Mapping) and isinstance(part, str):
            plain = plain.get(part)
        else:
            return None
    return plain


def named(path: str, plain: object) -> str:
    """The path with the entries' names in place of their numbers, where they have one."""
    try:
        parts = split(path)
    except PathError:  # "(file)", a file's name
        return path
    out: list[Part] = []
    for part in parts:
        key = key_of(plain)
        if isinstance(part, int) and isinstance(plain, list) and part < len(plain):
            out.append(part if key is None else plain[part][key])
        else:
            out.append(part)
        plain = value_at(plain, [part])
    return joined(out)
