"""Which questions the policy denies (way "dns"), and what is answered then.

A denied name has neither A nor AAAA nor HTTPS records: an answer without any (NODATA), with the reason for
people (RFC 8914, "Blocked"). A browser shows its page for unknown names at once. Not REFUSED: a stub would
take its question to the next server, and wait. Not NXDOMAIN: it would be said of all names below, too (RFC
8020), which may be allowed; nor an address, to which clients would try to connect.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import IPv6Address
from typing import Protocol

from appliance.config.rules import Rule
from appliance.config.schema import Config
from appliance.dns64.cache import Entry
from appliance.dns64.told import aliases_in, name_in, type_in
from appliance.policy.aliases import denied_alias, rules_of_names
from appliance.policy.clock import Clock
from appliance.policy.decide import CompiledPolicy
from appliance.policy.forbidden import unmapped
from appliance.policy.request import DNS, Moment, Request, Verdict, list_with
from appliance.protocol import dns
from appliance.session.record import address_text
from appliance.session.tables import Tables

# Of the empty answer. Longer, and a rule that is taken back holds on for clients; shorter, and they ask more.
BLOCKED_TTL = 10
# Verdicts that are remembered, for the second in which they were given: 150 octets each.
MAX_REMEMBERED = 65_536
_CLASSES = (b"\0\1", b"\0\xff")  # IN, and any, which has what IN has
# Types that lead to addresses, ANY among them. Other questions harm nobody and keep mail going.
_DENIED_TYPES = frozenset({dns.A, dns.AAAA, dns.HTTPS, dns.SVCB, 255})
_QUESTION = 10  # its offset behind the id
_EDE, _EDE_BLOCKED = 15, 15
_MAX_EXTRA_TEXT = 200  # octets: the answer is to fit whatever the client takes
_NOBODY = dns.wire_name("isthmus.invalid")


class Denials(Protocol):
    """``dns64.denials.Denials``: who hears of what was denied."""

    def note(self, client: str, name: str, rule: str, device: str, name_list: str) -> None: ...


class Devices(Protocol):
    """``session.neighbours.Neighbours``."""

    def device_of(self, client: bytes, now: float) -> str: ...


def may_deny(rule: Rule) -> bool:
    """Whether a rule could deny a question: of what it asks for, a question must be able to have all."""
    return (
        rule.enabled
        and rule.action == "deny"
        and (not rule.ways or DNS in rule.ways)
        and not (rule.protocols or rule.ports or rule.destinations or rule.urls or rule.content_types)
        and rule.larger_than is None
    )


class Gate:
    """The policy before questions. ``wall`` gives seconds since 1970."""

    def __init__(
        self,
        config: Config,
        lists: Tables,
        devices: Devices,
        wall: Callable[[], float],
        denials: Denials | None = None,
    ) -> None:
        self._denials = denials
        self._knows_devices = bool(config.device)
        self._lists_of = {rule.name: rule.lists for rule in config.rule if rule.lists}
        self._naming = rules_of_names(config.rule)
        self._policy = CompiledPolicy(config)
        self._asks_devices = any(rule.devices for rule in config.rule if rule.enabled)
        self._lists = lists
        self._devices = devices
        self._wall = wall
        self._clock = Clock(config.schedule, config.system.timezone)
        self._second = -1
        self._moment = Moment(0.0, frozenset())
        self._verdicts: dict[bytes, dict[object, str]] = {}  # by client: of a question, of an entry's mark
        self._aliases = config.policy.aliases
        self._count = 0
        self.denied = 0

    def denies(self, client: bytes, tail: bytes, second: int) -> str:
        """The rule that denies a question, "" where none does; ``tail``: its packet without the id.

        ``client`` has 16 octets; ``second``: whole steady seconds. What is no question is not denied here.
        """
        if second != self._second:
            self._turn(second)
        known = self._verdicts.get(client)
        if known is None:
            known = self._verdicts[client] = {}
        verdict = known.get(tail)
        if verdict is None:
            verdict = self._judge(client, tail)
            self._count += 1
            if self._count > MAX_REMEMBERED:
                self._forget()
            else:
                known[tail] = verdict
        return verdict

    def cloaked(self, client: bytes, entry: Entry, second: int) -> str:
        """The rule that denies a name which the answer ``entry`` passes through, "" where none does."""
        aliases = entry.aliases
        if aliases is None:
            # Of other types nothing is denied for its own name either: mail's keys lead through CNAMEs.
            judged = type_in(entry.tail) in _DENIED_TYPES
            aliases = entry.aliases = aliases_in(entry.tail) if judged else ()
        if not aliases or self._aliases == "off":
            return ""
        if second != self._second:
            self._turn(second)
        known = self._verdicts.get(client)
        if known is None:
            known = self._verdicts[client] = {}
        verdict = known.get(entry.mark)
        if verdict is None:
            verdict = self._judge_aliases(client, entry.tail, aliases)
            self._count += 1
            if self._count > MAX_REMEMBERED:
                self._forget()
            else:
                known[entry.mark] = verdict
        return verdict

    def _judge_aliases(self, client: bytes, tail: bytes, aliases: tuple[str, ...]) -> str:
        if IPv6Address(client).is_loopback:
            return ""
        device = self._devices.device_of(client, self._moment.time) if self._asks_devices else ""
        decide = partial(self._decide, client, device)
        found = denied_alias(aliases, self._aliases, decide, self._lists_of, self._lists)
        if found is None:
            return ""
        name = name_in(tail)
        if self._decide(client, device, name).rule in self._naming:
            return ""  # the owner has allowed the name that was asked for
        rule = found.verdict.rule
        self._note(client, name, rule, device, found.name)
        return rule

    def _decide(self, client: bytes, device: str, name: str) -> Verdict:
        request = Request(DNS, "udp", unmapped(client), dns.PORT, name=name, device=device)
        return self._policy.decide(request, self._moment, self._lists)

    def _turn(self, second: int) -> None:
        """Another second: other times, perhaps other lists."""
        self._second = second
        self._forget()
        self._lists.refresh(second)
        self._moment = self._clock.at(self._wall())

    def _forget(self) -> None:
        self._verdicts.clear()
        self._count = 0

    def _judge(self, client: bytes, tail: bytes) -> str:
        end = _end_of_name(tail)
        if not end or int.from_bytes(tail[end : end + 2], "big") not in _DENIED_TYPES:
            return ""
        if tail[end + 2 : end + 4] not in _CLASSES or IPv6Address(client).is_loopback:
            return ""  # the box itself has to reach servers of lists, of the time
        device = self._devices.device_of(client, self._moment.time) if self._asks_devices else ""
        name = name_in(tail)
        verdict = self._decide(client, device, name)
        if verdict.allow:
            return ""
        self._note(client, name, verdict.rule, device, name)
        return verdict.rule

    def _note(self, client: bytes, name: str, rule: str, device: str, denied: str) -> None:
        """``denied``: the name that the rule denies, which the one asked for may only lead to."""
        self.denied += 1
        if self._denials is None:
            return
        if self._knows_devices and not device:
            device = self._devices.device_of(client, self._moment.time)
        name_list = list_with(denied, self._lists_of.get(rule, ()), self._lists)
        self._denials.note(address_text(client), name, rule, device, name_list)


def _end_of_name(tail: bytes) -> int:
    """The offset behind the name of a question of the usual form; 0 for anything else."""
    at, end = _QUESTION, min(len(tail) - 4, _QUESTION + dns.MAX_NAME)
    if tail[:1] >= b"\x80" or tail[2:4] != b"\0\1":
        return 0
    while at < end:
        length = tail[at]
        if length > 63:
            return 0
        at += 1 + length
        if not length:
            return at if at <= end else 0
    return 0


def blocked(query: dns.Message, rule: str) -> bytes:
    """The whole answer to a denied question, its id zero."""
    writer = dns.Writer(query, dns.answer_flags(query, dns.Rcode.NOERROR))
    times = b"".join(
        value.to_bytes(4, "big") for value in (1, BLOCKED_TTL, BLOCKED_TTL, BLOCKED_TTL, BLOCKED_TTL)
    )
    writer.add(dns.AUTHORITY, query.name, dns.SOA, dns.IN, BLOCKED_TTL, _NOBODY + _NOBODY + times)
    if query.opt:
        text = f"rule {rule}".encode()[:_MAX_EXTRA_TEXT]
        data = _EDE_BLOCKED.to_bytes(2, "big") + text
        option = _EDE.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data
        writer.add_opt(query.dnssec_ok, options=option)
    return writer.finish()
