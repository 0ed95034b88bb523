"""From the configuration to what will be done, as a list that can be printed. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Network

from appliance.config.schema import Config, lan_address
from appliance.config.sides import ADVERTISED_LIFETIME, Route
from appliance.dataplane import MARK_LOCAL, TABLE_LOCAL, tun_mark, tun_name, tun_table
from appliance.network import firewall, networkd, unbound

WPAD_PORT = 80


@dataclass(frozen=True, slots=True)
class MakeVlan:
    """A VLAN's device on a port."""

    name: str
    port: str
    vlan: int

    def __str__(self) -> str:
        return f"make vlan {self.name}: {self.vlan} on {self.port}"


@dataclass(frozen=True, slots=True)
class LanFacts:
    """What is known of one LAN. ``leaving``: prefixes whose address stays for now, beside the new one;
    ``retired``: prefixes that hosts are still told to leave."""

    device: str  # the interface's name
    prefix: IPv6Network  # "generated" resolved
    leaving: tuple[IPv6Network, ...] = ()
    retired: tuple[IPv6Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What the plan depends on beside the configuration."""

    lans: tuple[LanFacts, ...]  # as Config.lans
    wan: str  # the interface's name
    upstreams: tuple[IPv4Address, ...]  # of the configuration, else those DHCP named
    workers: int
    has_networkd: bool
    has_tun: bool = True  # the kernel makes TUN devices
    vlans: tuple[MakeVlan, ...] = ()
    absent: frozenset[str] = frozenset()  # devices that the box does not have now


@dataclass(frozen=True, slots=True)
class SetHostname:
    """The name that the box gives itself: in its log, to the DHCP server, on its console."""

    name: str

    def __str__(self) -> str:
        return f"host name {self.name}"


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Write a file whole. ``where`` is "networkd" or "runtime"."""

    where: str
    name: str
    text: str

    def __str__(self) -> str:
        body = "".join(f"    {line}\n" for line in self.text.splitlines())
        return f"write {self.where} file {self.name}\n{body}".rstrip()


@dataclass(frozen=True, slots=True)
class MakeTun:
    """A worker's TUN device, with the rule and the route that lead into it."""

    name: str
    mark: int
    table: int

    def __str__(self) -> str:
        return f"make tun {self.name}: fwmark {self.mark:#x} → table {self.table} → default dev {self.name}"


@dataclass(frozen=True, slots=True)
class LocalDelivery:
    """Packets with the mark go to this box's transparent sockets."""

    mark: int
    table: int

    def __str__(self) -> str:
        return f"deliver locally: fwmark {self.mark:#x} → table {self.table} → local ::/0 dev lo"


@dataclass(frozen=True, slots=True)
class KeepOnly:
    """Of our networkd files these stay, and no others."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return "no other networkd files than these"


@dataclass(frozen=True, slots=True)
class AddAddress:
    """A LAN address, where networkd is not there to set it. ``leaving``: no new session begins from it."""

    interface: str
    address: str
    leaving: bool = False

    def __str__(self) -> str:
        return f"address {self.address} on {self.interface}{', deprecated' if self.leaving else ''}"


@dataclass(frozen=True, slots=True)
class AddRoute:
    """A static route on an interface that networkd does not look after."""

    to: str
    via: str
    interface: str  # empty: where the router's address says
    metric: int

    def __str__(self) -> str:
        port = f" on {self.interface}" if self.interface else ""
        return f"route {self.to} by {self.via}{port}, metric {self.metric}"


@dataclass(frozen=True, slots=True)
class Firewall:
    """The nftables ruleset, in one transaction."""

    text: str

    def __str__(self) -> str:
        return "firewall\n" + "".join(f"    {line}\n" for line in self.text.splitlines()).rstrip()


Step = (
    SetHostname | WriteFile | KeepOnly | MakeVlan | MakeTun | LocalDelivery | AddAddress | AddRoute | Firewall
)

FILE_PREFIX = "10-isthmus-"


def plan(config: Config, facts: Facts) -> list[Step]:
    """The steps, in the order in which they are taken."""
    steps: list[Step] = []
    if facts.has_networkd:
        # By hand, in a namespace, the name is the machine's own. First, for networkd to ask DHCP with it.
        steps.append(SetHostname(config.system.hostname))
        steps += _networkd_files(config, facts)
    steps += [vlan for vlan in facts.vlans if vlan.port not in facts.absent]
    if not facts.has_networkd:
        steps += _addresses(facts)
    places = ((route, route_device(config, facts, route)) for route in config.route)
    steps += [
        AddRoute(str(route.to), str(route.via), device, route.metric)
        for route, device in places
        if not (facts.has_networkd and device in _managed(facts)) and device not in facts.absent
    ]
    steps.append(LocalDelivery(MARK_LOCAL, TABLE_LOCAL))
    if facts.has_tun:
        steps += [MakeTun(tun_name(n), tun_mark(n), tun_table(n)) for n in range(facts.workers)]
    # Browsers fetch http://wpad/wpad.dat from port 80 and no other.
    wpad = lan_address(facts.lans[0].prefix) if config.explicit.pac_port == WPAD_PORT else None
    text = unbound.configuration(facts.upstreams, config.dns.dnssec, 1, config.translation, wpad)
    steps.append(WriteFile("runtime", "unbound.conf", text))
    steps.append(WriteFile("runtime", "lans.json", _links(config, facts)))
    # Last: nft takes it whole or not at all, so what fails before or in it can all be undone.
    devices = [lan.device for lan in facts.lans]
    text = firewall.ruleset(config, devices, facts.wan, facts.workers, facts.has_tun)
    steps.append(Firewall(text))
    return steps


def route_device(config: Config, facts: Facts, route: Route) -> str:
    """The interface that a route's router is on; empty where only the kernel's routes say."""
    if route.interface is not None:
        return route.interface
    if isinstance(route.via, IPv4Address):
        return facts.wan
    return next((lan.device for lan in facts.lans if route.via in lan.prefix), "")


def _links(config: Config, facts: Facts) -> str:
    """What isthmus-lan reads: each LAN's device, and what its hosts are told by it."""
    plain = [
        {
            "name": name,
            "device": known.device,
            "dhcpv6": lan.dhcpv6,
            "dns_servers": [str(one) for one in lan.dns_servers or (lan_address(known.prefix),)],
            "search_domains": list(lan.search_domains),
            "ntp_servers": [str(one) for one in lan.ntp_servers],
            "mtu": lan.mtu,
            "lifetime": ADVERTISED_LIFETIME,
            "managed": lan.managed,
            "router_preference": lan.router_preference,
        }
        for (name, lan), known in zip(config.lans(), facts.lans, strict=True)
    ]
    return json.dumps(plain, indent=1) + "\n"


def _managed(facts: Facts) -> set[str]:
    return {facts.wan, *(lan.device for lan in facts.lans)}


def _networkd_files(config: Config, facts: Facts) -> list[Step]:
    prefixes: Sequence[IPv6Network] = [entry.prefix for entry in config.translation]

    def routes(device: str) -> list[Route]:
        return [route for route in config.route if route_device(config, facts, route) == device]

    files = {f"{FILE_PREFIX}wan.network": networkd.wan_file(config, facts.wan, routes(facts.wan))}
    for index, ((name, lan), known) in enumerate(zip(config.lans(), facts.lans, strict=True)):
        files[f"{FILE_PREFIX}{f'lan-{name}' if index else 'lan'}.network"] = networkd.lan_file(
            name if index else "LAN", lan, known.device, known.prefix, prefixes,
            known.leaving, known.retired, routes(known.device),
        )  # fmt: skip
    for port in sorted({vlan.port for vlan in facts.vlans} - _managed(facts)):
        files[f"{FILE_PREFIX}port-{port}.network"] = networkd.trunk_file(port)
    return [*(WriteFile("networkd", name, text) for name, text in files.items()), KeepOnly(tuple(files))]


def _addresses(facts: Facts) -> list[Step]:
    found: list[Step] = []
    for lan in facts.lans:
        if lan.device not in facts.absent:
            found.append(AddAddress(lan.device, f"{lan.prefix[1]}/64"))
            found += [AddAddress(lan.device, f"{old[1]}/64", leaving=True) for old in lan.leaving]
    return found
