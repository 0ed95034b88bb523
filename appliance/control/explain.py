"""“Why?”: what the policy says of a session, rule by rule, by the same code as the data path's."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from appliance.config import Config
from appliance.errors import IsthmusError
from appliance.host import is_own_address
from appliance.policy.clock import Clock
from appliance.policy.decide import CompiledPolicy
from appliance.policy.forbidden import forbidden_of, unmapped
from appliance.policy.request import DNS, PUBLISHED, Explanation, Names, Request, Step, Verdict
from appliance.policy.services import TargetsByName
from appliance.session.neighbours import Neighbours

# What may be asked for: the way that a session comes by, and what it is.
PROTOCOLS = {
    "tcp": ("transparent", "tcp"),
    "udp": ("transparent", "udp"),
    "icmp": ("transparent", "icmp"),
    "http": ("http", "tcp"),
    "connect": ("connect", "tcp"),
    "socks": ("socks", "tcp"),
    "dns": (DNS, "udp"),
    "published": (PUBLISHED, "tcp"),  # a client of the WAN, and a service at the port
}
_DEFAULT_PORTS = {"http": 80, "dns": 53, "icmp": 0}
ALWAYS = "always"  # what is refused whatever the rules say
# The one in force, and those of admins at work. Thousands of rules take a tenth of a second to compile.
MAX_COMPILED = 4


class QuestionError(IsthmusError):
    """The question cannot be answered as it is put."""

    code = "question"


@dataclass(frozen=True, slots=True)
class Question:
    """Who wants to go where. ``host``: a name or an address; ``addresses``: what a name leads to."""

    protocol: str
    client: IPv4Address | IPv6Address | None
    user: str
    host: str
    port: int
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()


def question(
    protocol: str, client: str | None, user: str | None, target: str, addresses: list[str] | None
) -> Question:
    """The question in these words; QuestionError."""
    if protocol not in PROTOCOLS:
        raise QuestionError(f"“{protocol}” is no protocol here.", f"It is one of {', '.join(PROTOCOLS)}.")
    host, port = _target(target, protocol)
    try:
        who = ip_address(client) if client else None
        where = tuple(ip_address(address) for address in addresses or ())
    except ValueError as error:
        raise QuestionError(f"{error}.", "Write an address as 2001:db8::1 or 192.0.2.1.") from None
    return Question(protocol, who, user or "", host, port, where)


def _target(target: str, protocol: str) -> tuple[str, int]:
    remedy = "Write it as www.example.org:443, 192.0.2.1:80 or [2001:db8::1]:443."
    host, colon, digits = target.rpartition(":")
    if not colon or (target.count(":") > 1 and not host.startswith("[")):
        host, digits = target, ""
    host = host.removeprefix("[").removesuffix("]").rstrip(".").lower()
    if not host or any(sign.isspace() or sign == "/" for sign in host):
        raise QuestionError(f"“{target}” is no destination.", remedy)
    if not digits:
        return host, _DEFAULT_PORTS.get(protocol, 443)
    if not digits.isdecimal() or int(digits) > 65_535:
        raise QuestionError(f"“{digits}” is no port.", remedy)
    return host, int(digits)


class Compiled:
    """Policies that were compiled, by the configurations that they are of: the last few."""

    def __init__(self) -> None:
        self._kept: list[tuple[Config, CompiledPolicy]] = []

    def of(self, config: Config) -> CompiledPolicy:
        """The policy of a configuration, which nobody changes."""
        for known, policy in self._kept:
            if known is config:
                return policy
        policy = CompiledPolicy(config)
        self._kept = [(config, policy), *self._kept[: MAX_COMPILED - 1]]
        return policy


def explain(
    config: Config, asked: Question, lists: Mapping[str, Names], compiled: Compiled
) -> dict[str, Any]:
    """The varlink type ``Explanation``."""
    if asked.protocol == PUBLISHED:
        return _plain(_of_service(config, asked, lists, compiled))
    try:
        literal: IPv4Address | IPv6Address | None = ip_address(asked.host)
    except ValueError:
        literal = None
    forbidden = forbidden_of(config)
    addresses = (literal,) if literal is not None else asked.addresses
    for address in addresses:
        why = forbidden.why(address.packed, _is_own)
        if why:
            words = f"{address} is {why}, which nobody reaches through the box"
            return _plain(Explanation(Verdict(False, ALWAYS), [Step(ALWAYS, True, words)]))
    policy = compiled.of(config)
    way, kind = PROTOCOLS[asked.protocol]
    client = b"" if asked.client is None else unmapped(asked.client.packed)
    now = time.time()
    device = Neighbours(config.device).device_of(client, now) if len(client) == 16 else ""
    readings = tuple(reading for address in addresses for reading in forbidden.readings(address.packed))
    request = Request(
        way,
        kind,
        client or bytes(16),
        asked.port,
        name="" if literal is not None else asked.host,
        readings=readings or None,
        user=asked.user,
        groups=policy.groups_of(asked.user),
        device=device,
        url=f"{asked.host}/" if way == "http" else "",
    )
    moment = Clock(config.schedule, config.system.timezone).at(now)
    found = policy.explain(request, moment, lists)
    if literal is None and found.verdict.allow and _judges_aliases(config):
        words = "a name that this one leads to (CNAME) may be denied: that is seen when it is looked up"
        found.steps.append(Step("policy.aliases", None, words))
    return _plain(found)


def _judges_aliases(config: Config) -> bool:
    """Whether a name that is allowed may be denied by what it leads to."""
    mode = config.policy.aliases
    return mode != "off" and any(rule.lists or mode == "all" for rule in config.rule)


def _of_service(
    config: Config, asked: Question, lists: Mapping[str, Names], compiled: Compiled
) -> Explanation:
    """What a client of the WAN is told that says this host at this port."""
    service = next((one for one in config.published if one.port == asked.port), None)
    if service is None:
        raise QuestionError(f"Nothing is published at port {asked.port}.", "Ask for the port of a service.")
    name = "" if service.route == "none" else asked.host
    targets = TargetsByName(service).find(name)
    if not targets:
        words = f"service “{service.name}” leads nowhere for {name}"
        return Explanation(Verdict(False, ALWAYS), [Step(ALWAYS, True, words)])
    # The first that answers serves, and this is the first that is tried.
    target = ip_address(targets[0].rpartition(":")[0].strip("[]"))
    request = Request(
        PUBLISHED,
        service.protocol,
        bytes(16) if asked.client is None else unmapped(asked.client.packed),
        asked.port,
        name=name,
        readings=forbidden_of(config).readings(target.packed),
    )
    moment = Clock(config.schedule, config.system.timezone).at(time.time())
    return compiled.of(config).explain(request, moment, lists)


def _plain(found: Explanation) -> dict[str, Any]:
    return {**found.verdict._asdict(), "steps": [step._asdict() for step in found.steps]}


def _is_own(address: bytes) -> bool:
    return is_own_address(str(ip_address(address)))
