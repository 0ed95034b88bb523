"""One line of the session log as a value: what the history keeps and the exports write."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from appliance.errors import CAPS, SHORTAGES, Failure

# The longest line that is one: a name has 253 signs, and the other texts are ours. A longer one is what a
# crash or another program left, and would be memory.
MAX_LINE = 8_192
MAX_TEXT = 512
# More than any session carries; sums of a batch still fit the database's integers.
MAX_NUMBER = 1 << 50
_MAX_PORT = 65_535

# Texts of a row that may be empty: null outside.
MAYBE = (
    "server",
    "origin",
    "service",
    "name",
    "named_by",
    "user",
    "rule",
    "device",
    "dns_name",
    "reference",
)


class Outcome(StrEnum):
    """What became of a session."""

    CARRIED = "carried"
    DENIED = "denied"  # by the policy, or an address that nobody may reach
    REFUSED = "refused"  # by the other side
    LIMITED = "limited"  # over a limit of the box, or out of something
    FAILED = "failed"  # no answer, no route, no such name


# Ends that a session which was carried can have too; what it carried tells.
_EITHER = frozenset({Failure.RESET.value, Failure.MEMORY.value})
_FAILURES = frozenset(failure.value for failure in Failure)
_DENIED = frozenset({Failure.DENIED.value, Failure.NON_GLOBAL.value})
_REFUSED = frozenset({Failure.REFUSED.value, Failure.PORT_UNREACHABLE.value})
_DOORS = frozenset({"service", "listener"})
_LIMITED = frozenset(failure.value for failure in CAPS | SHORTAGES)


class NoRowError(ValueError):
    """A line that is none of the session log's."""


@dataclass(frozen=True, slots=True)
class Row:
    """A session that ended or did not come about. Texts are empty, numbers 0, where nothing is known.

    ``time`` (of its end) and ``age`` are milliseconds, ``time`` since 1970; ``to_wan`` and ``to_lan`` octets.
    ``reason`` is the log's word for its end. ``dns_name``: what the client had asked for, where it then
    said another name; ``reference``: of a denial.
    """

    time: int
    kind: str
    outcome: Outcome
    reason: str
    client: str
    client_port: int
    server: str
    server_port: int
    origin: str
    origin_port: int
    service: str
    name: str
    named_by: str
    user: str
    rule: str
    device: str
    dns_name: str
    reference: str
    age: int
    to_wan: int
    to_lan: int


def outcome_of(reason: str, came_about: bool, octets: int) -> Outcome:
    """What ``reason`` means; ``came_about``: the log calls it an end and no refusal."""
    if reason in _DENIED:
        return Outcome.DENIED
    if came_about and (octets or reason in _EITHER or reason not in _FAILURES):
        return Outcome.CARRIED
    if reason in _REFUSED:
        return Outcome.REFUSED
    return Outcome.LIMITED if reason in _LIMITED else Outcome.FAILED


def parse(line: bytes) -> Row:
    """The row of a line without its end; NoRowError where it is none."""
    if len(line) > MAX_LINE:
        raise NoRowError("too long")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise NoRowError("no JSON") from None
    if not isinstance(found, dict):
        raise NoRowError("no object")
    came_about = "end" in found
    reason = _text(found, "end" if came_about else "refused")
    kind, client = _text(found, "kind"), _text(found, "client")
    if not reason or not kind or not client:
        raise NoRowError("no session")
    to_wan, to_lan = _number(found, "bytes_to_wan"), _number(found, "bytes_to_lan")
    origin, name, named_by = _text(found, "origin"), _text(found, "name"), _text(found, "named_by")
    service = _text(found, "service")
    if origin and not name and not _is_address(origin):
        # What was refused before it had an address: the log has the name, or the door, in its place.
        door, space, rest = origin.partition(" ")
        if space and door in _DOORS:
            service = rest
        else:
            name, named_by = origin, named_by or "asked"
        origin = ""
    return Row(
        time=_milliseconds(found, "time"),
        kind=kind,
        outcome=outcome_of(reason, came_about, to_wan + to_lan),
        reason=reason,
        client=client,
        client_port=_number(found, "client_port", _MAX_PORT),
        server=_text(found, "server"),
        server_port=_number(found, "server_port", _MAX_PORT),
        origin=origin,
        origin_port=_number(found, "origin_port", _MAX_PORT),
        service=service,
        name=name,
        named_by=named_by,
        user=_text(found, "user"),
        rule=_text(found, "rule"),
        device=_text(found, "device"),
        dns_name=_text(found, "dns_name"),
        reference=_text(found, "reference"),
        age=_milliseconds(found, "age"),
        to_wan=to_wan,
        to_lan=to_lan,
    )


def _is_address(origin: str) -> bool:
    return ":" in origin or origin[-1:].isdecimal()


def _text(found: dict[str, Any], key: str) -> str:
    value = found.get(key)
    if value is None:
        return ""
    # Signs that do not print would be somebody else's commands on a terminal, or lines in an export.
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise NoRowError(key)
    return value


def _number(found: dict[str, Any], key: str, most: int = MAX_NUMBER) -> int:
    value = found.get(key, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise NoRowError(key)
    return value


def _milliseconds(found: dict[str, Any], key: str) -> int:
    value: Any = found.get(key, 0)
    # A comparison with NaN is false.
    if type(value) not in (int, float) or not 0 <= value <= MAX_NUMBER / 1000:
        raise NoRowError(key)
    return int(value * 1000 + 0.5)
