"""The words of a decision: what is known of a session, when it is, and what is found.

A *request* is what is known of a session at one moment; ``None`` in it is what may still become known (the
name in a ClientHello that has not come). A *verdict* is *pending* where an earlier rule could
turn it by that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from appliance.config.rules import DEFAULT_RULE
from appliance.policy.sets import suffixes
from appliance.policy.urls import one_spelling

# Ways that more than their rules treat alone: plain HTTP, whose URLs and content can be seen; questions.
HTTP = "http"
DNS = "dns"
PUBLISHED = "published"
# The name of the rule where none matched; no rule may be called that (``config.rules``).
NO_RULE = DEFAULT_RULE


class Names(Protocol):
    """A list's table."""

    def find(self, name: str) -> str:
        """The entry that ``name`` is, or is below; empty for none."""


def list_with(name: str, asked: Iterable[str], tables: Mapping[str, Names]) -> str:
    """The first of the lists ``asked`` that has ``name``; empty where none has, or it is not there yet."""
    for one in asked:
        table = tables.get(one)
        if table is not None and table.find(name):
            return one
    return ""


class Request:
    """What is known of a session. Names are in small letters without the final dot.

    ``way`` and ``kind`` as of ``config.rules``; ``client``: packed, 16 octets or 4; ``readings``: all that
    the destination's address stands for (``Forbidden.readings``), None while it is not known; ``name``: ""
    where there is none; ``url``: host/path of plain HTTP, in any spelling.
    """

    __slots__ = (
        "client",
        "content_type",
        "device",
        "groups",
        "kind",
        "name",
        "port",
        "readings",
        "size",
        "suffixes",
        "url",
        "user",
        "way",
    )

    def __init__(
        self,
        way: str,
        kind: str,
        client: bytes,
        port: int,
        name: str | None = None,
        readings: tuple[bytes, ...] | None = None,
        user: str = "",
        groups: frozenset[str] = frozenset(),
        device: str = "",
        url: str = "",
        content_type: str | None = None,
        size: int | None = None,
    ) -> None:
        self.way = way
        self.kind = kind
        self.client = client
        self.port = port
        self.say(name)
        self.readings = readings
        self.user = user
        self.groups = groups
        self.device = device
        self.url = one_spelling(url) if url else ""
        self.content_type = content_type
        self.size = size

    def say(self, name: str | None) -> None:
        """It is for this name."""
        self.name = name
        self.suffixes = suffixes(name) if name else []


class Verdict(NamedTuple):
    """``rule``: the name of the one that matched, NO_RULE for the default's. ``note``: its owner's words."""

    allow: bool
    rule: str
    pending: bool = False
    note: str = ""


class Moment(NamedTuple):
    """When it is: seconds since 1970, and the schedules that this is in."""

    time: float
    schedules: frozenset[str]


class Step(NamedTuple):
    """What ``explain`` says of one rule. ``matched`` is None where too little is known."""

    rule: str
    matched: bool | None
    why: str


class Explanation(NamedTuple):
    """The verdict, and each rule up to the one that gave it."""

    verdict: Verdict
    steps: list[Step]


# What a condition says: it holds, it does not (in words), or too little is known (in words).
class No(str):
    """It does not hold."""

    __slots__ = ()


class Unknown(str):
    """It cannot be told yet."""

    __slots__ = ()
