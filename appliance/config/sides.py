"""The box's sides: ports and VLANs, addresses, what each LAN's hosts are told, routes beyond them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from itertools import combinations
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from appliance.config.fields import Domain, InterfaceName, LabelName, LanNetwork, PrefixNetwork, Section

AUTO = "auto"
_LAN_CHOSEN = "auto/lan"  # no port is called so
# The kernel's IFNAMSIZ less the NUL: a VLAN's device is named by its port and its number.
MAX_DEVICE_NAME = 15
# Each LAN has a device, an address and its part of the firewall; more networks than that want a router.
MAX_LANS = 64
MAX_ROUTES = 256
# Seconds. RFC 8781 counts PREF64 lifetimes in units of 8; three times the longest interval between
# advertisements (RFC 4861), so that two lost ones do no harm.
ADVERTISED_LIFETIME = 1_800
# The least that IPv6 runs over (RFC 8200 section 5), and a jumbo frame's.
MIN_MTU = 1_280
MAX_MTU = 9_216

_UNIQUE_LOCAL = IPv6Network("fc00::/7")  # RFC 4193: what a generated prefix is of

Vlan = Annotated[int, Field(ge=1, le=4_094)]
Finding = tuple[str, str, str]  # path, message, hint


class Wan(Section):
    """The IPv4 side."""

    # The port, by its name; "auto": the first wired one of the box's first start, which is kept.
    interface: InterfaceName = "auto"
    # The VLAN on that port (802.1Q), by its number; not set: frames without a tag.
    vlan: Vlan | None = None
    mode: Literal["dhcp", "static"] = "dhcp"  # where the box has its IPv4 address from
    address: IPv4Interface | None = None  # with its prefix length: 192.0.2.2/24
    gateway: IPv4Address | None = None  # the router to the IPv4 world, inside that network

    @model_validator(mode="after")
    def _static_is_whole(self) -> Wan:
        if self.mode == "static":
            if self.address is None or self.gateway is None:
                raise ValueError("static mode needs both address and gateway")
            if self.gateway not in self.address.network:
                raise ValueError(f"the gateway {self.gateway} is not inside {self.address.network}")
            if self.gateway == self.address.ip:
                raise ValueError(f"the gateway {self.gateway} is the box's own address")
        elif self.address is not None or self.gateway is not None:
            raise ValueError('address and gateway belong to mode = "static"; DHCP brings its own')
        return self


class Hosts(Section):
    """A LAN, and what its hosts are told by router advertisements and DHCPv6."""

    interface: InterfaceName = "auto"  # the port, by its name
    # The VLAN on the port (802.1Q), by its number; not set: frames without a tag.
    vlan: Vlan | None = None
    # "generated": a random ULA (RFC 4193), made at the first boot and kept.
    prefix: Literal["generated"] | LanNetwork = "generated"
    # Largest packet of this LAN, in octets, which hosts are told; not set: what the port has.
    mtu: Annotated[int, Field(ge=MIN_MTU, le=MAX_MTU)] | None = None
    # Which router hosts take of several (RFC 4191).
    router_preference: Literal["low", "medium", "high"] = "medium"
    # Hosts are told to ask a DHCPv6 server for addresses (the M flag). The box is none: another has to be.
    managed: bool = False
    # Answer DHCPv6 questions for DNS servers, search domains and time servers (RFC 8415 section 18.3.6), and
    # tell hosts to ask (the O flag). For hosts that do not take these from router advertisements.
    dhcpv6: bool = False
    # Resolvers that hosts are told of; empty: the box, whose DNS64 they need to reach IPv4 by name.
    dns_servers: Annotated[tuple[IPv6Address, ...], Field(max_length=8)] = ()
    # Domains that hosts complete short names with (RFC 8106).
    search_domains: Annotated[tuple[Domain, ...], Field(max_length=8)] = ()
    # Time servers that DHCPv6 tells of (RFC 5908).
    ntp_servers: Annotated[tuple[IPv6Address, ...], Field(max_length=8)] = ()
    # Seconds for which hosts may use the translation prefix (PREF64, RFC 8781); 0: it is not advertised.
    pref64_lifetime: Annotated[int, Field(ge=0, le=65_528, multiple_of=8)] = ADVERTISED_LIFETIME

    @field_validator("dns_servers", "ntp_servers")
    @classmethod
    def _are_hosts(cls, servers: tuple[IPv6Address, ...]) -> tuple[IPv6Address, ...]:
        for server in servers:
            if server.is_multicast or server.is_unspecified or server.is_loopback or server.is_link_local:
                raise ValueError(f"{server} is no address of a server that every host can reach")
        return servers

    @model_validator(mode="after")
    def _somebody_tells_the_time(self) -> Hosts:
        if self.ntp_servers and not self.dhcpv6:
            raise ValueError("ntp_servers are told by DHCPv6 only: set dhcpv6 = true")
        return self


class Lan(Hosts):
    """The IPv6 side. The box is ::1 of the prefix."""

    # The port, by its name; "auto": the first wired one that was left at the box's first start, kept too.
    interface: InterfaceName = "auto"
    # IPv4 clients of published services appear to the servers with their address in this prefix
    # (RFC 6052). The LAN's routers have to send it to the box.
    client_prefix: PrefixNetwork | None = None


class _Named(Section):
    """What goes by its name, which stands first."""

    name: LabelName


class Segment(Hosts, _Named):
    """A further LAN: a port, or a VLAN, of its own. The box is ::1 of its prefix too.

    Hosts of different LANs do not reach one another through the box: it is a proxy to IPv4, no router.
    """

    name: LabelName  # small letters, digits and hyphens
    # The port, by its name; "auto", for a VLAN: the LAN's port.
    interface: InterfaceName = "auto"
    # The web console answers there too.
    console: bool = False

    @model_validator(mode="after")
    def _has_a_place(self) -> Segment:
        if self.interface == AUTO and self.vlan is None:
            raise ValueError("it needs a port of its own, or a VLAN on the LAN's port")
        return self


class Route(Section):
    """A network behind a router: IPv4 on the WAN's side, IPv6 on the LAN's."""

    name: LabelName  # small letters, digits and hyphens
    to: IPv4Network | IPv6Network  # the network: 10.0.0.0/8, or fd00:5::/48
    # The router, on a network of the box's: of a LAN, or of the WAN.
    via: IPv4Address | IPv6Address
    # The port it is on, where its address does not say: a link-local one, or an island's IPv4.
    interface: InterfaceName | None = None
    # Of several routes to a network the one with the least is taken.
    metric: Annotated[int, Field(ge=1, le=65_535)] = 1_024

    @model_validator(mode="after")
    def _is_of_one_family(self) -> Route:
        if self.to.version != self.via.version:
            raise ValueError(f"the router {self.via} is not of the network's family (IPv{self.to.version})")
        if self.to.prefixlen == 0 and isinstance(self.to, IPv6Network):
            raise ValueError("the IPv6 world is the LAN's routers' to reach, not the box's: name a network")
        if self.to.is_multicast or self.to.is_loopback or (self.to.is_link_local and self.to.prefixlen):
            raise ValueError(f"no route leads to {self.to}")
        if self.via.is_multicast or self.via.is_loopback or self.via.is_unspecified:
            raise ValueError(f"{self.via} is no router's address")
        if self.via.is_link_local and self.interface is None:
            raise ValueError(f"{self.via} is link-local: name the interface it is on")
        return self


def device_name(port: str, vlan: int | None) -> str:
    """The kernel's name for a VLAN of a port; the port's own without one. A long port name loses its end."""
    if vlan is None:
        return port
    ending = f".{vlan}"
    return port[: MAX_DEVICE_NAME - len(ending)] + ending


def _place(interface: str, vlan: int | None) -> str:
    chosen = interface in (AUTO, _LAN_CHOSEN)
    port = "the port that the box chooses" if chosen else f"port {interface}"
    return port if vlan is None else f"VLAN {vlan} on {port}"


def place_of(side: Wan | Lan | Segment) -> str:
    """In words, where a side is."""
    return _place(side.interface, side.vlan)


def side_findings(
    wan: Wan,
    lan: Lan,
    segments: Sequence[Segment],
    translation: Sequence[IPv6Network],
    made: Mapping[str, IPv6Network],
) -> Iterator[Finding]:
    """What is wrong between the sides: a place that is there twice, prefixes that overlap.

    ``made``: the prefixes that the box generated, by LAN, as far as they are known.
    """
    yield from _places(wan, lan, segments)
    yield from _prefixes(lan, segments, translation, made)


def _places(wan: Wan, lan: Lan, segments: Sequence[Segment]) -> Iterator[Finding]:
    apart = "Give each side a port, or a VLAN, of its own."
    # A segment's VLAN without a port of its own is on the LAN's. The port that the box chooses for the LAN is
    # another than the one that it chooses for the WAN.
    lan_port = _LAN_CHOSEN if lan.interface == AUTO else lan.interface
    sides = [("lan", "the LAN", lan_port, lan.vlan)]
    names = {"lan", "wan"}
    for index, one in enumerate(segments):
        if one.name in names:
            yield f"segment[{index}].name", f"“{one.name}” is there already.", "Give each LAN its own name."
        names.add(one.name)
        port = lan_port if one.interface == AUTO else one.interface
        sides.append((f"segment[{index}]", f"LAN “{one.name}”", port, one.vlan))
    taken = {(wan.interface, wan.vlan): "the WAN"}
    devices = {device_name(wan.interface, wan.vlan): "the WAN"}
    for path, who, port, vlan in sides:
        setting = f"{path}.interface" if vlan is None else f"{path}.vlan"
        other = taken.get((port, vlan))
        device = device_name(port, vlan)
        if other == "the WAN" and vlan is None:
            yield setting, f"“{port}” is the WAN already: the two differ.", apart
        elif other is not None:
            yield setting, f"{_place(port, vlan)} is {other} already.", apart
        elif device in devices:
            words = f"its device would be called {device}, as that of {devices[device]} is."
            yield setting, words, "Take another number for the VLAN."
        taken.setdefault((port, vlan), who)
        devices.setdefault(device, who)


@dataclass(frozen=True, slots=True)
class _Prefix:
    """A LAN's, with its setting and in words."""

    path: str
    words: str
    network: IPv6Network
    made: bool  # by the box: what somebody wrote has to make way


def _known(lan: Lan, segments: Sequence[Segment], made: Mapping[str, IPv6Network]) -> Iterator[_Prefix]:
    sides: list[tuple[str, str, str, Hosts]] = [("lan", "lan.prefix", "the LAN's prefix", lan)]
    sides += [
        (one.name, f"segment[{index}].prefix", f"the prefix of LAN “{one.name}”", one)
        for index, one in enumerate(segments)
    ]
    for name, path, words, side in sides:
        if isinstance(side.prefix, IPv6Network):
            yield _Prefix(path, f"{words}, {side.prefix}", side.prefix, False)
        elif name in made:
            yield _Prefix(path, f"{words}, {made[name]}, which the box made", made[name], True)


def _prefixes(
    lan: Lan, segments: Sequence[Segment], translation: Sequence[IPv6Network], made: Mapping[str, IPv6Network]
) -> Iterator[Finding]:
    own = "Each LAN has a /64 that nobody else has: give another one."
    apart = "Give another one, which has no LAN of the box's in it."
    known = list(_known(lan, segments, made))
    for one, other in combinations(known, 2):
        if one.network.overlaps(other.network):
            mine, theirs = (one, other) if other.made and not one.made else (other, one)
            yield mine.path, f"{mine.network} overlaps {theirs.words}.", own
    for one in known:
        for index, network in enumerate(translation):
            if not network.overlaps(one.network):
                continue
            if one.made:
                yield f"translation[{index}].prefix", f"{network} overlaps {one.words}.", apart
            else:
                yield one.path, f"{one.network} overlaps the translation prefix {network}.", own
        clients = lan.client_prefix
        if clients is None or not clients.overlaps(one.network):
            continue
        if one.made:
            yield "lan.client_prefix", f"{clients} overlaps {one.words}.", apart
        elif one.path != "lan.prefix":
            yield one.path, f"{one.network} overlaps lan.client_prefix, {clients}.", own


def route_findings(
    routes: Sequence[Route],
    wan: Wan,
    lans: Iterable[tuple[str, IPv6Network | str]],
    translation: Sequence[IPv6Network],
) -> Iterator[Finding]:
    """What is wrong with the routes: a router that no network of the box has, a network that is its own.

    ``lans``: each LAN's name and prefix.
    """
    lans = list(lans)
    known = [(name, prefix) for name, prefix in lans if isinstance(prefix, IPv6Network)]
    made = len(known) < len(lans)
    seen: set[tuple[object, int]] = set()
    names: set[str] = set()
    for index, route in enumerate(routes):
        path = f"route[{index}]"
        if route.name in names:
            yield f"{path}.name", f"“{route.name}” is there twice.", "Give each its own name."
        names.add(route.name)
        key = (route.to, route.metric)
        if key in seen:
            yield f"{path}.to", f"{route.to} is there twice with metric {route.metric}.", "Give one another."
        seen.add(key)
        if isinstance(route.to, IPv6Network):
            yield from _ipv6_route(path, route, known, made, translation)
        elif wan.mode == "static" and wan.address is not None:
            network = wan.address.network
            if route.interface is None and route.via not in network:
                words = f"the router {route.via} is not inside the WAN's network, {network}."
                yield f"{path}.via", words, "Name the interface it is on, or another router."
            if route.via == wan.address.ip:
                yield f"{path}.via", f"{route.via} is the box itself.", "Name the next router."
            if route.to.prefixlen and route.to.overlaps(network) and route.to.prefixlen >= network.prefixlen:
                yield f"{path}.to", f"{route.to} is the WAN's own network.", "It needs no route."


def _ipv6_route(
    path: str,
    route: Route,
    lans: Sequence[tuple[str, IPv6Network]],
    made: bool,
    translation: Sequence[IPv6Network],
) -> Iterator[Finding]:
    assert isinstance(route.to, IPv6Network)
    for name, prefix in lans:
        if prefix.overlaps(route.to):
            words = f"{route.to} overlaps {prefix}, which LAN “{name}” has."
            yield f"{path}.to", words, "Name the network behind the router only."
        if route.via == prefix[1]:
            yield f"{path}.via", f"{route.via} is the box itself.", "Name the next router."
    for network in translation:
        if network.overlaps(route.to):
            words = f"{route.to} overlaps the translation prefix {network}, which the box serves itself."
            yield f"{path}.to", words, "Take it out."
    # A generated prefix is not known here: where the router is in none, the kernel refuses the route.
    inside = any(route.via in prefix for _name, prefix in lans) or (made and route.via in _UNIQUE_LOCAL)
    if route.interface is None and not inside:
        words = f"the router {route.via} is in no LAN of the box's."
        yield f"{path}.via", words, "Give an address in a LAN, or a link-local one with its interface."
