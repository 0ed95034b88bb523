"""systemd-networkd's files as text: the WAN's address, each LAN's address and router advertisements. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Network

from appliance.config.schema import Config, lan_address
from appliance.config.sides import ADVERTISED_LIFETIME, Hosts, Route


def wan_file(config: Config, interface: str, routes: Sequence[Route] = ()) -> str:
    """The .network file of the WAN: IPv4 only."""
    wan = config.wan
    if wan.mode == "dhcp":
        address = "DHCP=ipv4\n"
        rest = "\n[DHCPv4]\nUseDNS=yes\nUseNTP=yes\nUseHostname=no\nUseDomains=no\nSendRelease=no\n"
    else:
        address = f"Address={wan.address}\nGateway={wan.gateway}\n"
        rest = ""
    return (
        f"[Match]\nName={interface}\n\n[Link]\nRequiredForOnline=no\n\n"
        f"[Network]\nDescription=WAN\n{address}LinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        f"LLMNR=no\nMulticastDNS=no\n{rest}{_routes(routes)}"
    )


def lan_file(
    name: str,
    lan: Hosts,
    interface: str,
    prefix: IPv6Network,
    translation: Sequence[IPv6Network],
    leaving: Sequence[IPv6Network] = (),
    retired: Sequence[IPv6Network] = (),
    routes: Sequence[Route] = (),
) -> str:
    """The .network file of a LAN: IPv6 only, advertising prefix, DNS server and PREF64.

    ``leaving``: prefixes whose address the box keeps for now, deprecated; ``retired``: prefixes that it
    has no address in any more. Hosts are told that nothing new is to use either (RFC 4862 section 5.5.4).
    """
    own = lan_address(prefix)
    pref64 = (
        "".join(
            f"\n[IPv6PREF64Prefix]\nPrefix={network}\nLifetimeSec={lan.pref64_lifetime}\n"
            for network in translation
        )
        if lan.pref64_lifetime
        else ""
    )
    link = "" if lan.mtu is None else f"MTUBytes={lan.mtu}\n"
    flags = ("Managed=yes\n" if lan.managed else "") + ("OtherInformation=yes\n" if lan.dhcpv6 else "")
    if lan.router_preference != "medium":
        flags += f"RouterPreference={lan.router_preference}\n"
    servers = " ".join(str(server) for server in lan.dns_servers or (own,))
    domains = f"EmitDomains=yes\nDomains={' '.join(lan.search_domains)}\n" if lan.search_domains else ""
    kept = "".join(f"\n[Address]\nAddress={lan_address(old)}/64\nPreferredLifetime=0\n" for old in leaving)
    old_prefixes = "".join(
        f"\n[IPv6Prefix]\nPrefix={old}\nPreferredLifetimeSec=0\nValidLifetimeSec={ADVERTISED_LIFETIME}\n"
        for old in (*leaving, *retired)
    )
    return (
        f"[Match]\nName={interface}\n\n[Link]\nRequiredForOnline=no\n{link}\n"
        f"[Network]\nDescription={name}\nAddress={own}/64\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n"
        "IPv6SendRA=yes\nIPv6DuplicateAddressDetection=0\nConfigureWithoutCarrier=yes\n"
        "LLMNR=no\nMulticastDNS=no\n\n"
        f"[IPv6SendRA]\nEmitDNS=yes\nDNS={servers}\nDNSLifetimeSec={ADVERTISED_LIFETIME}\n"
        f"{domains}{flags}RouterLifetimeSec={ADVERTISED_LIFETIME}\n\n"
        f"[IPv6Prefix]\nPrefix={prefix}\n{old_prefixes}{pref64}{kept}{_routes(routes)}"
    )


def trunk_file(port: str) -> str:
    """The .network file of a port that carries VLANs and has no other part: up, and without an address."""
    return (
        f"[Match]\nName={port}\n\n[Link]\nRequiredForOnline=no\n\n"
        "[Network]\nDescription=VLANs\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        "ConfigureWithoutCarrier=yes\nLLMNR=no\nMulticastDNS=no\n"
    )


def _routes(routes: Sequence[Route]) -> str:
    return "".join(
        f"\n[Route]\nDestination={route.to}\nGateway={route.via}\nMetric={route.metric}\n" for route in routes
    )
