"""The policy as a worker asks it: with the moment, the lists' tables, clients' names and devices at hand.

A *judge* is for one session, whose request becomes known piece by piece: who and what for at first, then the
address that the name led to, then what the origin sends.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from time import monotonic
from zoneinfo import ZoneInfo

from appliance.config.schema import Config
from appliance.policy.aliases import denied_alias, rules_of_names
from appliance.policy.clock import Clock
from appliance.policy.decide import CompiledPolicy
from appliance.policy.forbidden import Forbidden, forbidden_of, unmapped
from appliance.policy.request import HTTP, Moment, Names, Request, Verdict, list_with
from appliance.session.asked import AskedNames
from appliance.session.neighbours import Neighbours
from appliance.session.record import MAPPED, literal_address

# Verdicts of one second; more are for a scan, which asks for each thing once.
MAX_REMEMBERED = 16_384


class Judge:
    """One session before the policy. ``verdict`` is the one of now."""

    __slots__ = ("_arbiter", "_request", "verdict")

    def __init__(self, arbiter: Arbiter, request: Request) -> None:
        self._arbiter = arbiter
        self._request = request
        self.verdict = arbiter.decide(request)

    @property
    def denied(self) -> bool:
        """Whether it is denied, whatever else may become known."""
        return not (self.verdict.allow or self.verdict.pending)

    def allows_address(self, address: bytes, aliases: tuple[str, ...] = ()) -> bool:
        """Whether a session with this address (4 or 16 octets) may be dialled.

        ``aliases``: the names that led to it from the asked one. What is pending yet is decided by what the
        client says inside its tunnel, or by the origin's answer.
        """
        request, arbiter = self._request, self._arbiter
        request.readings = arbiter.readings(address)
        self.verdict = verdict = arbiter.decide(request)
        if aliases and verdict.allow and verdict.rule not in arbiter.naming:
            cloaked = arbiter.cloaked(request, aliases)
            if cloaked is not None:
                self.verdict = cloaked
                return False
        return verdict.allow or verdict.pending

    def allows_name(self, name: str) -> bool:
        """Whether the client may have what it says inside its tunnel; "": it says no name."""
        self._request.say(name)
        self.verdict = self._arbiter.decide(self._request)
        return self.verdict.allow

    def allows_content(self, content_type: str, size: int) -> bool:
        """Whether the client may have what the origin sends.

        ``size``: its octets; where that is not told, those that have come.
        """
        self._request.content_type, self._request.size = content_type, size
        self.verdict = self._arbiter.decide(self._request)
        return self.verdict.allow


class Arbiter:
    """A worker's part of the policy. ``asks``: whether any session has to be judged at all;
    ``asks_names``: whether any verdict hangs on a name; ``knows_devices``: whether the owner has named any;
    ``judges_devices``: whether a rule or limit is for some.
    """

    def __init__(self) -> None:
        self.asks = False
        self.asks_names = False
        self.knows_devices = False
        self.judges_devices = False
        self.lists: Mapping[str, Names] = {}
        self.names: AskedNames | None = None  # who asked the DNS for which name
        # How often which rule and list decided, until the worker has written it down.
        self.rule_hits: dict[str, int] = {}
        self.list_hits: dict[str, int] = {}
        self.naming: frozenset[str] = frozenset()  # the rules that are about names
        self._lists_of: dict[str, tuple[str, ...]] = {}
        self._devices = Neighbours(())
        self._config = Config()
        self._policy = CompiledPolicy(self._config)
        self._forbidden = Forbidden(())
        self._clock = Clock((), "UTC")
        self._moment = Moment(0.0, frozenset())
        self._verdicts: dict[tuple[str, bytes, bytes, int, str | None], Verdict] = {}  # of this second

    def configure(self, config: Config) -> None:
        """Take a configuration up."""
        self._config = config
        self._policy = CompiledPolicy(config)
        self.asks = self._policy.asks
        self.asks_names = self._policy.asks_names
        self.judges_devices = any(one.devices for one in (*config.rule, *config.limit))
        self.knows_devices = bool(config.device)
        self.naming = rules_of_names(config.rule)
        self._lists_of = {rule.name: rule.lists for rule in config.rule if rule.lists}
        self._forbidden = forbidden_of(config)
        self._clock = Clock(config.schedule, config.system.timezone)
        self._devices = Neighbours(config.device)
        self.every_second()

    def every_second(self) -> None:
        """What time it is."""
        self._verdicts.clear()
        self._moment = self._clock.at(time.time())

    def local_time(self) -> datetime:
        """The time by the box's zone."""
        return datetime.now(ZoneInfo(self._config.system.timezone))

    def readings(self, address: bytes) -> tuple[bytes, ...]:
        """All that an address stands for: ``Forbidden.readings``."""
        return self._forbidden.readings(address)

    def decide(self, request: Request) -> Verdict:
        """The verdict of now."""
        return self._policy.decide(request, self._moment, self.lists)

    def cloaked(self, request: Request, aliases: tuple[str, ...]) -> Verdict | None:
        """The verdict that denies one of ``aliases`` in place of the request's name; None where none does."""
        asked = request.name

        def decide(alias: str) -> Verdict:
            request.say(alias)
            return self.decide(request)

        found = denied_alias(aliases, self._config.policy.aliases, decide, self._lists_of, self.lists)
        request.say(asked)
        return None if found is None else found.verdict

    def hit(self, rule: str, name: str) -> None:
        """Count a session that ``rule`` decided on; ``name``: where it went, "" where none is known."""
        hits = self.rule_hits
        hits[rule] = hits.get(rule, 0) + 1
        lists = self._lists_of.get(rule)
        if lists is not None and name:
            found = list_with(name, lists, self.lists)
            if found:
                self.list_hits[found] = self.list_hits.get(found, 0) + 1

    def device_of(self, client: bytes) -> str:
        """The client's device, where the configuration knows any."""
        return self._devices.device_of(client, self._moment.time) if self._config.device else ""

    def awaits_device(self, client: bytes) -> bool:
        """Whether the client's device is about to be known: worth a moment before it is judged."""
        return bool(self._config.device) and self._devices.asked_for(client, time.time())

    def groups_of(self, user: str) -> frozenset[str]:
        """The groups of a user; none of somebody who is not known."""
        return self._policy.groups_of(user)

    def name_of(self, client: bytes, server: bytes, origin: bytes) -> str:
        """The name that the client asked the DNS for; empty where none is known.

        ``server``: the address that it writes to; ``origin``: the IPv4 address that this stands for, which is
        what a client was told that makes IPv6 of IPv4 itself (464XLAT, RFC 6877).
        """
        names = self.names
        if names is None:
            return ""
        now = monotonic()
        return names.lookup(client, server, now) or names.lookup(client, MAPPED + origin, now)

    def packet(self, kind: str, client: bytes, origin: bytes, port: int, name: str | None) -> Verdict:
        """The verdict on a transparent session; ``origin``: its packed IPv4 address.

        Remembered for the second, since a client seldom opens one session alone.
        """
        key = kind, client, origin, port, name
        verdict = self._verdicts.get(key)
        if verdict is None:
            if len(self._verdicts) >= MAX_REMEMBERED:
                self._verdicts.clear()
            device = self.device_of(client)
            verdict = self._verdicts[key] = self.decide(
                Request("transparent", kind, client, port, name=name, readings=(origin,), device=device)
            )
        return verdict

    def published(self, kind: str, client: bytes, port: int, name: str | None, target: bytes) -> Verdict:
        """The verdict on a client of a published service; ``target``: the server's packed address."""
        return self.decide(
            Request("published", kind, unmapped(client), port, name=name, readings=self.readings(target))
        )

    def judge(
        self, way: str, kind: str, client: bytes, port: int, host: str, user: str, url: str = ""
    ) -> Judge:
        """A judge for a client of the explicit proxy. ``host``: a name or a written address.

        Who asks for a tunnel to an address, or sends datagrams there, may say a name inside.
        """
        name: str | None = host
        readings = None
        literal = literal_address(host)
        if literal is not None:
            name = None if way != HTTP else ""
            readings = self.readings(literal)
        request = Request(
            way,
            kind,
            client,
            port,
            name=name,
            readings=readings,
            user=user,
            groups=self._policy.groups_of(user),
            device=self.device_of(client),
            url=url,
        )
        return Judge(self, request)
