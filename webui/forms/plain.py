"""The configuration as plain values: getting at a part of it, its token, its problems."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from appliance.config.codec import validate
from appliance.errors import ConfigError, Problem

Plain = dict[str, Any]
Path = Sequence[str | int]


def at(config: Any, path: Path, absent: Any = None) -> Any:
    """What is there, or ``absent``."""
    for step in path:
        try:
            config = config[step]
        except (KeyError, IndexError, TypeError):
            return absent
    return config


def replaced(config: Plain, path: Path, value: Any) -> Plain:
    """As ``config``, which stays as it is, with ``value`` there; None takes it away.

    What the path does not lead through is shared by both: a copy of thousands of rules takes long.
    """
    made = dict(config)
    place: Any = made
    for step in path[:-1]:
        inner = place.get(step, {}) if isinstance(step, str) else place[step]
        place[step] = copy.copy(inner)
        place = place[step]
    last = path[-1]
    if value is not None:
        if isinstance(place, list) and isinstance(last, int) and last == len(place):
            place.append(value)
        else:
            place[last] = value
    elif isinstance(place, list) and isinstance(last, int):
        del place[last]
    else:
        place.pop(last, None)
    return made


def steps(dotted: str) -> tuple[str, ...]:
    """ "timers.udp" as a path."""
    return tuple(dotted.split("."))


def token(value: Any) -> str:
    """Tells whether a value is still the one that a page was made from. No secret."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def problems(config: Plain) -> list[Problem]:
    """All that is wrong with it. Passwords are control's to judge: the console sees none."""
    users = [{key: user[key] for key in user if key != "password"} for user in config.get("user", [])]
    try:
        validate({**config, "user": users})
    except ConfigError as error:
        return error.problems
    return []
