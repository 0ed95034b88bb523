"""Changes to single [[user]] and [[group]] tables of a configuration's text; the rest of it stays as it is.

A library that keeps comments (tomlkit) takes a millisecond for each user of the file, a minute for as many as
there may be, and moves comments that stand before the next table. Here the text is cut into *statements* (a
header, or a key with its value) in one pass, and only those that change are written anew. It is known to be
TOML: whoever calls has had it parsed, and compares what comes out.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import NamedTuple

Value = str | list[str]

_KEY = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_BEGIN = re.compile(
    rf"[ \t]*+(?:(?P<header>\[[^\n]*+)|(?P<key>{_KEY}(?:[ \t]*+\.[ \t]*+{_KEY})*+)[ \t]*+=[ \t]*+)", re.ASCII
)
# What a value may hold that counts, as far as its end is to be found.
_TOKENS = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+"{3,5}+'
    r"|'''(?:[^']|'(?!''))*+'{3,5}+"
    r'|"(?:[^"\\\n]|\\.)*+"'
    r"|'[^'\n]*+'"
    r"|(?P<comment>#[^\n]*+)"
    r"|(?P<open>[\[{])|(?P<close>[\]}])|(?P<newline>\n)",
    re.DOTALL,
)


class _Statement(NamedTuple):
    """``key`` is the header's ("[[user]]") or the key's text; ``value`` where the value begins and ends."""

    start: int
    end: int  # behind the line's end
    key: str
    value: tuple[int, int]


def _statements(text: str) -> list[_Statement]:
    found = []
    at = 0
    while at < len(text):
        begun = _BEGIN.match(text, at)
        if begun is None:  # a comment, an empty line
            at = text.find("\n", at) + 1 or len(text)
            continue
        depth, end = 0, len(text)
        value_end = end
        for token in _TOKENS.finditer(text, begun.start("header") if begun["header"] else begun.end()):
            if token["open"]:
                depth += 1
            elif token["close"]:
                depth -= 1
            elif depth == 0 and token["comment"]:
                value_end = min(value_end, token.start())
            elif depth == 0 and token["newline"]:
                value_end, end = min(value_end, token.start()), token.end()
                break
        value = begun.end(), begun.end() + len(text[begun.end() : value_end].rstrip())
        key = begun["key"] or "".join(text[begun.start("header") : value_end].split())
        found.append(_Statement(at, end, key.strip("\"'"), value))
        at = end
    return found


def _written(value: Value) -> str:
    """As TOML; names and hashes hold nothing that would have to be escaped."""
    return f'"{value}"' if isinstance(value, str) else "[" + ", ".join(f'"{one}"' for one in value) + "]"


def _block(table: str, values: Mapping[str, Value]) -> str:
    return f"[[{table}]]\n" + "".join(f"{key} = {_written(value)}\n" for key, value in values.items())


def _with_blocks(text: str, table: str) -> str:
    """``table = […]`` at the head of the file as [[table]] blocks at its end."""
    for statement in _statements(text):
        if statement.key.startswith("["):
            break
        if statement.key == table:
            entries = tomllib.loads(text)[table]
            text = text[: statement.start] + text[statement.end :]
            for entry in entries:
                text = _appended(text, _block(table, entry))
            break
    return text


def _appended(text: str, block: str) -> str:
    if text and not text.endswith("\n"):
        text += "\n"
    return f"{text}\n{block}" if text.strip() else block


def _find(text: str, table: str, name: str) -> list[_Statement]:
    """The header of the table with this name, and its keys; nothing where there is none."""
    entries = tomllib.loads(text).get(table, [])
    index = next((at for at, entry in enumerate(entries) if entry["name"] == name), None)
    found: list[_Statement] = []
    for statement in _statements(text):
        if statement.key.startswith("["):
            if found:
                break
            if statement.key == f"[[{table}]]" and index is not None:
                if index == 0:
                    found.append(statement)
                index -= 1
        elif found:
            found.append(statement)
    return found


def set_entry(text: str, table: str, name: str, values: Mapping[str, Value]) -> str:
    """``text`` with the values in the [[table]] of that name, which is added where there is none."""
    text = _with_blocks(text, table)
    found = _find(text, table, name)
    if found:
        for key, value in values.items():
            found = _find(text, table, name)
            text = _set(text, found, key, _written(value))
        return text
    block = _block(table, {"name": name, **values})
    headers = [s for s in _statements(text) if s.key.startswith("[")]
    last = next((at for at in range(len(headers) - 1, -1, -1) if headers[at].key == f"[[{table}]]"), None)
    if last is None or last == len(headers) - 1:
        return _appended(text, block)
    end = max(s.end for s in _statements(text[: headers[last + 1].start]))
    return f"{text[:end]}\n{block}{text[end:]}"


def _set(text: str, statements: list[_Statement], key: str, written: str) -> str:
    for statement in statements[1:]:
        if statement.key == key:
            start, end = statement.value
            return text[:start] + written + text[end:]
    end = statements[-1].end
    before = text[:end] if text[:end].endswith("\n") else text[:end] + "\n"
    return f"{before}{key} = {written}\n{text[end:]}"


def remove_entry(text: str, table: str, name: str) -> str:
    """``text`` without the [[table]] of that name. A comment above it stays."""
    text = _with_blocks(text, table)
    found = _find(text, table, name)
    if not found:
        return text
    start, end = found[0].start, found[-1].end
    rest = text[end:]
    if rest.startswith("\n") and (start == 0 or text[:start].endswith("\n\n")):
        rest = rest[1:]  # of the two empty lines around it one is enough
    return text[:start] + rest
