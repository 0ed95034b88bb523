"""Whom each limit counts: quotas and rates by client, user, or all together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from appliance.config.rules import Limit
from appliance.policy.sets import NetworkSet

MIB = 1 << 20
ALL = "all"  # the subject of a limit that is one for all


@dataclass(frozen=True, slots=True)
class Party:
    """Who a session belongs to. ``client``: packed, 16 octets or 4; ``address``: the same as text."""

    client: bytes
    address: str
    user: str = ""
    groups: frozenset[str] = frozenset()
    device: str = ""


class CompiledLimit:
    """A limit, ready to be asked whom it counts. Amounts are None where they are not limited; octets."""

    __slots__ = (
        "_devices",
        "_each",
        "_groups",
        "_sources",
        "_users",
        "is_shared",
        "kbit_per_second",
        "name",
        "new_per_second",
        "per_day",
        "per_month",
        "sessions",
    )

    def __init__(self, limit: Limit) -> None:
        self.name = limit.name
        self.is_shared = limit.each != "client"  # a client is one worker's
        self._each = limit.each
        self._users = frozenset(limit.users)
        self._groups = frozenset(limit.groups)
        self._devices = frozenset(limit.devices)
        self._sources = NetworkSet(limit.sources) if limit.sources else None
        self.sessions = limit.sessions
        self.new_per_second = limit.new_per_second
        self.per_day = None if limit.mib_per_day is None else limit.mib_per_day * MIB
        self.per_month = None if limit.mib_per_month is None else limit.mib_per_month * MIB
        self.kbit_per_second = limit.kbit_per_second

    def subject(self, party: Party) -> str | None:
        """Whose meter counts the party's sessions; None where the limit is not about it."""
        if self._users and party.user not in self._users:
            return None
        if self._groups and self._groups.isdisjoint(party.groups):
            return None
        if self._devices and party.device not in self._devices:
            return None
        if self._sources is not None and not self._sources.holds(party.client):
            return None
        if self._each == "all":
            return ALL
        if self._each == "user":
            return party.user or None
        return party.device or party.address


def compile_limits(limits: Iterable[Limit]) -> tuple[CompiledLimit, ...]:
    """Limits as the data path asks them."""
    return tuple(CompiledLimit(limit) for limit in limits)
