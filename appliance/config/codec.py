"""TOML text to models and back. All problems of a file are reported together, each with its path."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from appliance.config.migrate import migrate
from appliance.config.schema import Config, as_plain
from appliance.errors import ConfigError, Problem

# A configuration of a large site is some hundred kilobytes; more is a mistake or an attack.
MAX_CONFIG_BYTES = 4 << 20

# Levels of a dotted key. Ours have four at most; tomllib needs memory by the square of them, 1.5 GB for a
# key of 40 KB.
MAX_KEY_LEVELS = 16
# A string that does not end goes to the end of its line, so that nothing is looked at twice.
_PART = r"""(?:[\w-]++|"(?:[^"\\\n]|\\[^\n])*+"?|'[^'\n]*+'?)"""
# What a text consists of, as far as keys are to be told from strings and comments; linear in its length.
_TOKENS = re.compile(
    r"#[^\n]*+"
    r'|"""(?:[^"\\]|\\.|"(?!""))*+(?:"{3,5}+|\Z)'
    r"|'''(?:[^']|'(?!''))*+(?:'{3,5}+|\Z)"
    rf"|(?P<long>{_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_KEY_LEVELS}}})"
    rf"|{_PART}(?:[ \t]*+\.[ \t]*+{_PART})*+",
    re.ASCII | re.DOTALL,
)


def _path(location: Iterable[int | str]) -> str:
    out = ""
    for part in location:
        if isinstance(part, int):
            out += f"[{part}]"
        elif "[" in part:
            continue  # pydantic's names for the arms of a union are no path of the file
        else:
            out += f".{part}" if out else part
    return out or "(file)"


# What pydantic says in its own words, in ours; fields in braces are those of its context.
_WORDS = {
    "extra_forbidden": "is no setting of this version.",
    "missing": "is missing.",
    "string_type": "is to be text, in quotes.",
    "int_type": "is to be a whole number.",
    "int_parsing": "is to be a whole number.",
    "int_from_float": "is to be a whole number.",
    "bool_type": "is to be true or false.",
    "bool_parsing": "is to be true or false.",
    "tuple_type": "is to be a list, in brackets.",
    "model_type": "is to be a table of settings.",
    "model_attributes_type": "is to be a table of settings.",
    "too_short": "is empty: give at least {min_length}.",
    "too_long": "has {actual_length} entries, of at most {max_length}.",
    "greater_than_equal": "is too small: at least {ge}.",
    "less_than_equal": "is too large: at most {le}.",
    "literal_error": "is to be {expected}.",
    "ip_v4_address": "is no IPv4 address.",
    "ip_v6_address": "is no IPv6 address.",
}


def _sentence(item: ErrorDetails) -> tuple[str, str]:
    """(what is wrong, what to do)."""
    context = item.get("ctx", {})
    if item["type"] in _WORDS:
        return _WORDS[item["type"]].format(**context), ""
    text = item["msg"].removeprefix("Value error, ")
    return text if text.endswith(".") else text + ".", str(context.get("hint", ""))


def _quoted(item: ErrorDetails) -> str:
    """What stands there, where that helps and is nobody's secret."""
    if item["type"] == "extra_forbidden" or not isinstance(item["input"], str | int | float):
        return ""
    return "" if "password" in item["loc"] else f" (It is {item['input']!r}.)"


def _is_shadow(item: ErrorDetails) -> bool:
    """True for what pydantic adds to a problem it has reported already.

    Of a union the arm that did not match is no news, and a list whose entries were refused is not
    "too short" for it.
    """
    if any(isinstance(part, str) and part.startswith("literal[") for part in item["loc"]):
        return True
    return item["type"] == "too_short" and bool(item["input"])


def parse(text: str) -> Config:
    """The configuration in ``text``; raises ConfigError with every problem found."""
    for token in _TOKENS.finditer(text):
        if token["long"]:
            line = text.count("\n", 0, token.start()) + 1
            raise _refuse(
                f"(line {line})",
                f"a key has more than {MAX_KEY_LEVELS} levels: {text[token.start() : token.start() + 40]}…",
                "too-deep",
                "No setting has more than four; a value with dots goes into quotes.",
            )
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _refuse("(file)", f"this is no TOML: {error}", "syntax") from None
    except RecursionError:  # a daemon that reads the file anew must not end by it
        raise _refuse("(file)", "tables or lists are nested too deeply.", "syntax") from None
    return validate(data)


def validate(data: dict[str, Any]) -> Config:
    """The configuration in a plain object; raises ConfigError with every problem found."""
    data = migrate(data)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        problems: dict[tuple[str, str], Problem] = {}
        for item in error.errors(include_url=False):
            if _is_shadow(item):
                continue
            path = _path(item["loc"])
            message, hint = _sentence(item)
            message += _quoted(item)
            problems.setdefault((path, message), Problem(path, message, hint, item["type"]))
        raise ConfigError(list(problems.values())) from None
    contradictions = [
        Problem(path, message, hint, "conflict") for path, message, hint in config.cross_checks()
    ]
    if contradictions:
        raise ConfigError(contradictions)
    return config


def _refuse(place: str, message: str, code: str, hint: str = "") -> ConfigError:
    return ConfigError([Problem(place, message, hint, code)])


def read_text(path: Path) -> str:
    """The text of the file at ``path``; a missing or unreadable file is a ConfigError."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_CONFIG_BYTES + 1)
        if len(raw) > MAX_CONFIG_BYTES:
            raise _refuse(str(path), f"is larger than {MAX_CONFIG_BYTES} bytes.", "too-large")
        return raw.decode("utf-8")
    except OSError as error:
        hint = "Is that where it lies?" if isinstance(error, FileNotFoundError) else ""
        raise _refuse(str(path), f"cannot be read: {error.strerror}.", "unreadable", hint) from None
    except UnicodeDecodeError as error:
        raise _refuse(str(path), f"is not UTF-8 (byte {error.start}).", "syntax") from None


def load(path: Path) -> Config:
    """The configuration in the file at ``path``; a missing or unreadable file is a ConfigError too."""
    return parse(read_text(path))


def dump(config: Config) -> str:
    """The configuration as TOML text, every setting written out; ``parse`` gives it back equal."""
    return tomli_w.dumps(as_plain(config))


# Lists with many entries, of which each sets a few of many settings.
_SPARSE = (
    "segment", "route", "group", "user", "published", "device", "name_list", "schedule", "rule", "limit",
)  # fmt: skip


def write(config: Config) -> str:
    """The text for the file: as ``dump``, but entries of the long lists say only what they set.

    ConfigError where it would be longer than what ``load`` reads.
    """
    plain = as_plain(config)
    blocks = []
    for name in _SPARSE:
        del plain[name]
        for entry in getattr(config, name):
            values = entry.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
            if any(
                isinstance(value, list) and value and isinstance(value[0], dict) for value in values.values()
            ):
                blocks.append("\n" + tomli_w.dumps({name: [values]}))
            else:
                blocks.append(f"\n[[{name}]]\n{tomli_w.dumps(values)}")
    text = tomli_w.dumps(plain) + "".join(blocks)
    size = len(text.encode())
    if size > MAX_CONFIG_BYTES:
        hint = "Names belong into a list: [[name_list]] with a file as its source."
        words = f"it would have {size} bytes, of at most {MAX_CONFIG_BYTES}."
        raise _refuse("(file)", words, "too-large", hint)
    return text
