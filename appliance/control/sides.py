"""What control knows of the LANs beside the configuration: prefixes that were made, that leave, that left."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

from appliance.config.schema import Config, lan_address
from appliance.config.sides import device_name
from appliance.network.apply import write_atomically
from appliance.network.observe import Roles
from appliance.network.plan import Facts, LanFacts, MakeVlan

# Seconds for which hosts are told to leave a prefix that the box has no address in any more (RFC 9096 section
# 3.3). Less, and a laptop that slept keeps using it; more only makes advertisements longer.
RETIRED_SECONDS = 3_600.0
# Prefixes of one LAN that are told of so, the last ones: somebody who tries ten fills no advertisement.
MAX_RETIRED = 4
# Subnets of the /48 that was made: 1 is the LAN's.
_LAST_SUBNET = 0xFFFF


def generate_prefix() -> IPv6Network:
    """A random unique local /64: RFC 4193 section 3.2.1's 40 bits, and subnet 0 is left to the operator."""
    return IPv6Network((b"\xfd" + secrets.token_bytes(5) + b"\0\1" + bytes(8), 64))


class Sides:
    """The files ``lan-prefix`` and ``segment-subnets`` of ``state``, and the prefixes in use lately."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._used: set[tuple[str, IPv6Network]] = set()
        self._gone: dict[tuple[str, IPv6Network], float] = {}  # by when they went

    def generated(self) -> IPv6Network | None:
        """The LAN prefix that was made here; None where none was yet."""
        try:
            return IPv6Network((self._state / "lan-prefix").read_text().strip())
        except (OSError, ValueError):
            return None

    def prefixes(self, config: Config) -> dict[str, IPv6Network]:
        """Each LAN's prefix by its name. Generated ones are made once and kept, all of one /48."""
        base = self.generated()
        if base is None and any(not isinstance(lan.prefix, IPv6Network) for _name, lan in config.lans()):
            base = generate_prefix()
            write_atomically(self._state / "lan-prefix", f"{base}\n")
        known = self._subnets()
        found, subnets = _given(config, base, known)
        if subnets != known:
            write_atomically(self._state / "segment-subnets", json.dumps(subnets, indent=1) + "\n")
        return found

    def foreseen(self, config: Config) -> dict[str, IPv6Network]:
        """What ``prefixes`` will say, and nothing is kept; without those of a /48 that is yet to be made."""
        return _given(config, self.generated(), self._subnets())[0]

    def _subnets(self) -> dict[str, int]:
        try:
            plain = json.loads((self._state / "segment-subnets").read_text())
            return {str(name): int(number) for name, number in plain.items()}
        except (OSError, ValueError, TypeError, AttributeError):  # a file that is damaged is as none
            return {}

    def resolve(self, name: str, prefix: object) -> IPv6Network | None:
        """The prefix of an earlier configuration's LAN; None where it never came to have one."""
        if prefix != "generated":
            return IPv6Network(str(prefix))
        base = self.generated()
        if base is None or name == "lan":
            return base
        number = self._subnets().get(name)
        return None if number is None else _subnet(base, number)

    def lans(
        self, config: Config, roles: Roles, leaving: Mapping[str, object], now: float
    ) -> tuple[LanFacts, ...]:
        """What the plan is to know of each LAN. ``leaving``: the prefixes, by LAN, of the configuration that
        may come back; ``now``: monotonic."""
        prefixes = self.prefixes(config)
        gone = {key for key, when in self._gone.items() if now - when < RETIRED_SECONDS} | self._used
        found = []
        for (name, lan), port in zip(config.lans(), roles.lans, strict=True):
            old = self.resolve(name, leaving[name]) if name in leaving else None
            goes = () if old is None or old in prefixes.values() else (old,)
            # What is another LAN's by now, nobody is told to leave.
            here = {*prefixes.values(), *goes}
            retired = sorted(prefix for other, prefix in gone if other == name and prefix not in here)
            retired = retired[-MAX_RETIRED:]
            device = device_name(port, lan.vlan)
            found.append(LanFacts(device, prefixes[name], goes, tuple(retired)))
        return tuple(found)

    def applied(self, config: Config, facts: Facts, now: float) -> None:
        """These are in use now."""
        used = {
            (name, prefix)
            for (name, _lan), known in zip(config.lans(), facts.lans, strict=True)
            for prefix in (known.prefix, *known.leaving)
        }
        self._gone = {key: when for key, when in self._gone.items() if now - when < RETIRED_SECONDS}
        self._gone |= dict.fromkeys(self._used - used, now)
        for key in used:
            self._gone.pop(key, None)
        self._used = used


def _given(
    config: Config, base: IPv6Network | None, subnets: Mapping[str, int]
) -> tuple[dict[str, IPv6Network], dict[str, int]]:
    """Each LAN's prefix, and the subnets with those that are given out for it."""
    found: dict[str, IPv6Network] = {}
    given = dict(subnets)
    for name, lan in config.lans():
        if isinstance(lan.prefix, IPv6Network):
            found[name] = lan.prefix
        elif base is not None and name == "lan":
            found[name] = base
        elif base is not None:
            if name not in given:
                given[name] = _free(base, given.values(), _spoken_for(config))
            found[name] = _subnet(base, given[name])
    return found, given


def _spoken_for(config: Config) -> list[IPv6Network]:
    """All networks that the configuration names."""
    sides = [lan.prefix for _name, lan in config.lans()]
    others = [route.to for route in config.route] + [entry.prefix for entry in config.translation]
    return [one for one in (*sides, *others, config.lan.client_prefix) if isinstance(one, IPv6Network)]


def _free(base: IPv6Network, given: Iterable[int], networks: Iterable[IPv6Network]) -> int:
    """The first subnet that nobody has; where none is left, one that is not given out: a check refuses it."""
    site = base.supernet(new_prefix=48)
    spans = [(number, number) for number in given]
    for network in networks:
        if network.subnet_of(site):
            spans.append((int(network[0]) >> 64 & _LAST_SUBNET, int(network[-1]) >> 64 & _LAST_SUBNET))
    number = 2
    for first, last in sorted(spans):
        if first <= number <= last:
            number = last + 1
    return number if number <= _LAST_SUBNET else _free(base, given, ())


def _subnet(base: IPv6Network, number: int) -> IPv6Network:
    return IPv6Network((base.network_address.packed[:6] + number.to_bytes(2, "big") + bytes(8), 64))


def vlans(config: Config, roles: Roles) -> tuple[MakeVlan, ...]:
    """The VLANs' devices."""
    sides = [(roles.wan, config.wan.vlan)]
    sides += [(port, lan.vlan) for port, (_name, lan) in zip(roles.lans, config.lans(), strict=True)]
    return tuple(MakeVlan(device_name(port, vlan), port, vlan) for port, vlan in sides if vlan is not None)


def absent(config: Config, roles: Roles) -> frozenset[str]:
    """Ports that are not there, and the VLANs that would be on them."""
    ports = {port for _setting, port in roles.missing}
    gone = {vlan.name for vlan in vlans(config, roles) if vlan.port in ports}
    return frozenset(ports | gone)


def lan_states(config: Config, facts: Facts | None) -> list[dict[str, Any]]:
    """The varlink type ``LanState`` for each LAN; none before there is a plan."""
    if facts is None or len(facts.lans) != 1 + len(config.segment):
        return []
    return [
        {
            "name": name,
            "device": known.device,
            "vlan": lan.vlan,
            "prefix": str(known.prefix),
            "address": str(lan_address(known.prefix)),
            "leaving": [str(lan_address(prefix)) for prefix in known.leaving],
            "console": name == "lan" or bool(getattr(lan, "console", False)),
        }
        for (name, lan), known in zip(config.lans(), facts.lans, strict=True)
    ]


def role_of(port: str, facts: Facts | None, roles: Roles | None) -> str:
    """lan, wan or unused. A port that carries VLANs of both is the WAN's."""
    if facts is None or roles is None:
        return "unused"
    if port in (roles.wan, facts.wan):
        return "wan"
    return "lan" if port in roles.lans or port in {lan.device for lan in facts.lans} else "unused"
