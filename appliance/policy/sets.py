"""What rules ask about names, addresses and times: sets that are compiled once and looked into often."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network

from appliance.config.rules import DAYS, Schedule, minute_of

_MINUTES_OF_A_DAY = 1_440


def suffixes(name: str) -> list[str]:
    """The name and all that it is below, the longest first: a.b.example, b.example, example."""
    found = []
    at = 0
    while True:
        found.append(name[at:])
        at = name.find(".", at) + 1
        if at == 0:
            return found


class NameSet:
    """Patterns for names, as ``config.rules.domain_pattern`` writes them."""

    __slots__ = ("_below", "_exact", "_globs", "_whole")

    def __init__(self, patterns: Iterable[str]) -> None:
        exact, below, whole, globs = set(), set(), set(), []
        for pattern in patterns:
            if pattern.startswith("="):
                exact.add(pattern[1:])
            elif pattern.startswith("*.") and "*" not in pattern[2:]:
                below.add(pattern[2:])
            elif "*" in pattern:
                globs.append(_glob(pattern))
            else:
                whole.add(pattern)
        self._exact = frozenset(exact)
        self._below = frozenset(below)
        self._whole = frozenset(whole)  # the name and all below it
        self._globs = tuple(globs)

    def matches(self, name: str, its_suffixes: list[str]) -> bool:
        """Whether a name in small letters matches; ``its_suffixes``: ``suffixes`` of it."""
        if name in self._exact:
            return True
        if self._whole and any(suffix in self._whole for suffix in its_suffixes):
            return True
        if self._below and any(suffix in self._below for suffix in its_suffixes[1:]):
            return True
        return any(glob.fullmatch(name) is not None for glob in self._globs)


def keys_of(patterns: Iterable[str]) -> set[str] | None:
    """By which of its suffixes a name may match one of the patterns; None where any name may."""
    keys = set()
    for pattern in patterns:
        key = pattern[1:] if pattern.startswith("=") else pattern.removeprefix("*.")
        if "*" in key:
            return None
        keys.add(key)
    return keys


def _glob(pattern: str) -> re.Pattern[str]:
    """A "*" stays within its label; the whole label "*" in front stands for one or more."""
    head, rest = ("(?:[^.]+\\.)+", pattern[2:]) if pattern.startswith("*.") else ("", pattern)
    return re.compile(head + "[^.]*".join(re.escape(part) for part in rest.split("*")))


def url_glob(pattern: str) -> re.Pattern[str]:
    """A pattern of ``config.rules.UrlPattern``: host/path, "*" for any run of signs."""
    if "/" not in pattern:
        pattern += "/*"  # a bare host is all that it has
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


class NetworkSet:
    """Networks of both families; a look-up costs a step for each prefix length that there is."""

    __slots__ = ("_ipv4", "_ipv6")

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network]) -> None:
        by_shift: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
        for network in networks:
            shift = network.max_prefixlen - network.prefixlen
            heads = by_shift[network.version].setdefault(shift, set())
            heads.add(int(network.network_address) >> shift)
        self._ipv4 = tuple((shift, frozenset(heads)) for shift, heads in sorted(by_shift[4].items()))
        self._ipv6 = tuple((shift, frozenset(heads)) for shift, heads in sorted(by_shift[6].items()))

    def holds(self, address: bytes) -> bool:
        """Whether a packed address (4 or 16 octets) is in one of them."""
        value = int.from_bytes(address, "big")
        return any(
            value >> shift in heads for shift, heads in (self._ipv4 if len(address) == 4 else self._ipv6)
        )


class NetworkIndex:
    """Which entries have an address in one of their networks, at the cost of a look-up."""

    __slots__ = ("_ipv4", "_ipv6")

    def __init__(self) -> None:
        self._ipv4: dict[int, dict[int, list[int]]] = {}
        self._ipv6: dict[int, dict[int, list[int]]] = {}

    def add(self, network: IPv4Network | IPv6Network, entry: int) -> None:
        """Entry ``entry`` has this network."""
        shift = network.max_prefixlen - network.prefixlen
        table = self._ipv4 if network.version == 4 else self._ipv6
        heads = table.setdefault(shift, {})
        heads.setdefault(int(network.network_address) >> shift, []).append(entry)

    def find(self, address: bytes, into: list[int]) -> None:
        """Add the entries with this packed address to ``into``."""
        value = int.from_bytes(address, "big")
        for shift, heads in (self._ipv4 if len(address) == 4 else self._ipv6).items():
            found = heads.get(value >> shift)
            if found is not None:
                into += found


def active_schedules(schedules: Iterable[Schedule], local: datetime) -> frozenset[str]:
    """The names of the schedules that ``local``, a moment in the box's time zone, is in.

    By the clock on the wall: of an hour that daylight saving repeats both are in, of one that it skips none.
    """
    minute = local.hour * 60 + local.minute
    today = DAYS[local.weekday()]
    yesterday = DAYS[local.weekday() - 1]
    active = set()
    for schedule in schedules:
        since, until = minute_of(schedule.since), minute_of(schedule.until)
        if since < until:
            if today in schedule.days and since <= minute < until:
                active.add(schedule.name)
        elif (today in schedule.days and minute >= since) or (yesterday in schedule.days and minute < until):
            active.add(schedule.name)
    return frozenset(active)
