"""systemd-networkd's files as text: the WAN's address, the LAN's address and router advertisements."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Network

from appliance.config.schema import Config, lan_address

# Seconds. RFC 8781 counts PREF64 lifetimes in units of 8; three times the longest interval between
# advertisements (RFC 4861), so that two lost ones do no harm.
ADVERTISED_LIFETIME = 1_800


def wan_file(config: Config, interface: str) -> str:
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
        f"LLMNR=no\nMulticastDNS=no\n{rest}"
    )


def lan_file(interface: str, prefix: IPv6Network, translation: Sequence[IPv6Network]) -> str:
    """The .network file of the LAN: IPv6 only, advertising prefix, DNS server and PREF64."""
    own = lan_address(prefix)
    pref64 = "".join(
        f"\n[IPv6PREF64Prefix]\nPrefix={network}\nLifetimeSec={ADVERTISED_LIFETIME}\n"
        for network in translation
    )
    return (
        f"[Match]\nName={interface}\n\n[Link]\nRequiredForOnline=no\n\n"
        f"[Network]\nDescription=LAN\nAddress={own}/64\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n"
        "IPv6SendRA=yes\nIPv6DuplicateAddressDetection=0\nConfigureWithoutCarrier=yes\n"
        "LLMNR=no\nMulticastDNS=no\n\n"
        f"[IPv6SendRA]\nEmitDNS=yes\nDNS={own}\nDNSLifetimeSec={ADVERTISED_LIFETIME}\n"
        f"RouterLifetimeSec={ADVERTISED_LIFETIME}\n\n"
        f"[IPv6Prefix]\nPrefix={prefix}\n{pref64}"
    )
