"""What is never an origin, whatever the rules say: by every path, and for what names resolve to.

An address is judged by all of its readings, so that no embedding is a way round: an IPv4 address inside a
translation prefix, IPv4-mapped, -compatible or -translated, in 6to4 or in Teredo is judged like the same
address written plainly. Whether a reading belongs to the box only the kernel knows: that is a function passed
in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network

from appliance.addressing import NEVER_DIALLED_IPV4, WELL_KNOWN_PREFIX, TranslationPrefix
from appliance.config.schema import Config

# Where clouds tell a machine its secrets; those that do not lie in 169.254.0.0/16 or fe80::/10.
METADATA_IPV4 = tuple(
    IPv4Network(block)
    for block in (
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure
        "192.0.0.192/32",  # Oracle
    )
)
METADATA_IPV6 = tuple(
    IPv6Network(block)
    for block in (
        "fd00:ec2::/32",  # Amazon: ::254 metadata, ::23 credentials, ::253 DNS
        "fd20:ce::254/128",  # Google
        "fd00:42::42/128",  # Scaleway
    )
)

_IPV6 = (
    (IPv6Network("::/128"), "unspecified"),
    (IPv6Network("::1/128"), "loopback"),
    (IPv6Network("fe80::/10"), "link-local"),
    (
        IPv6Network("fec0::/10"),
        "site-local",
    ),  # deprecated (RFC 3879), but hosts that have it are somebody's LAN
    (IPv6Network("ff00::/8"), "multicast"),
    # Local use (RFC 8215): outside the box's own prefixes it is somebody else's translator, with a prefix
    # length that we do not know, so that what such an address embeds cannot be read.
    (IPv6Network("64:ff9b:1::/48"), "a foreign translation prefix"),
    *((network, "metadata") for network in METADATA_IPV6),
)
_IPV4_REASONS = {"0.0.0.0/8": "unspecified", "127.0.0.0/8": "loopback", "169.254.0.0/16": "link-local"}
_IPV4 = (
    *((network, _IPV4_REASONS.get(str(network), "multicast or reserved")) for network in NEVER_DIALLED_IPV4),
    *((network, "metadata") for network in METADATA_IPV4),
)

# Embeddings with the IPv4 address in the last four octets, by the twelve before it: compatible (RFC 4291
# section 2.5.5.1), translated (RFC 2765), the well-known prefix (a provider of the WAN's may translate too).
_IN_THE_END = frozenset(
    {bytes(12), bytes(8) + b"\xff\xff\0\0", WELL_KNOWN_PREFIX.network_address.packed[:12]}
)
_MAPPED = bytes(10) + b"\xff\xff"
_6TO4 = b"\x20\x02"  # RFC 3056: behind it the IPv4 address of the site's router
_TEREDO = b"\x20\x01\0\0"  # RFC 4380 section 4: the server's IPv4, flags, port, the client's IPv4, inverted


class Networks:
    """Networks of one family, each with a word for it, compiled to be looked through quickly."""

    __slots__ = ("_compiled",)

    def __init__(self, networks: Iterable[tuple[IPv4Network | IPv6Network, str]] = ()) -> None:
        self._compiled = tuple(
            (int(network.network_address) >> network.max_prefixlen - network.prefixlen,
             network.max_prefixlen - network.prefixlen, word)
            for network, word in networks
        )  # fmt: skip

    def find(self, address: bytes) -> str:
        """The word of the first network that holds the packed address; empty for none."""
        value = int.from_bytes(address, "big")
        for head, shift, word in self._compiled:
            if value >> shift == head:
                return word
        return ""


_FORBIDDEN_IPV4 = Networks(_IPV4)
_METADATA_IPV4 = Networks((network, "metadata") for network in METADATA_IPV4)
_FORBIDDEN_IPV6 = Networks(_IPV6)
NOWHERE = Networks()


def lan_networks(networks: Iterable[IPv6Network]) -> Networks:
    """Networks of the LAN, as ``Forbidden.why`` takes them."""
    return Networks((network, "the LAN") for network in networks)


def unmapped(address: bytes) -> bytes:
    """The IPv4 address of an IPv4-mapped one (RFC 4291 section 2.5.5.2); any other as it is."""
    return address[12:] if len(address) == 16 and address[:12] == _MAPPED else address


def is_metadata(address: bytes) -> bool:
    """Whether a packed IPv4 address is one of METADATA_IPV4."""
    return bool(_METADATA_IPV4.find(address))


class Forbidden:
    """What a configuration forbids: ``prefixes`` are its translation prefixes, ``lan`` the LAN's networks."""

    def __init__(self, prefixes: Iterable[TranslationPrefix], lan: Iterable[IPv6Network] = ()) -> None:
        self._prefixes = tuple(prefixes)
        # What lies in a prefix of ours without standing for an IPv4 address (bits 64 to 71) is nobody.
        ours = [(prefix.network, "no address of a translation prefix") for prefix in self._prefixes]
        self._mine = Networks([*ours, *((network, "the LAN") for network in lan)])

    def readings(self, address: bytes) -> tuple[bytes, ...]:
        """Where a packet to ``address`` (4 or 16 octets) may end up, packed.

        What the box itself translates, and what any kernel does (mapped), is its IPv4 address and nothing
        else; of all others the address itself comes first, then the IPv4 addresses that it embeds.
        """
        if len(address) == 4:
            return (address,)
        for prefix in self._prefixes:
            ipv4 = prefix.extract_packed(address)
            if ipv4 is not None:
                return (ipv4,)
        head = address[:12]
        if head == _MAPPED:
            return (address[12:],)
        if head in _IN_THE_END:
            return address, address[12:]
        if address[:2] == _6TO4:
            return address, address[2:6]
        if address[:4] == _TEREDO:
            return address, address[4:8], bytes(octet ^ 0xFF for octet in address[12:])
        return (address,)

    def why(self, address: bytes, is_own: Callable[[bytes], bool], lan: Networks = NOWHERE) -> str:
        """Why no session may go to ``address`` (4 or 16 octets), in a word or two; empty where one may.

        ``is_own``: whether an address of either family is the box's; ``lan``: more networks of the LAN, which
        only the moment can tell.
        """
        for reading in self.readings(address):
            if len(reading) == 4:
                reason = _FORBIDDEN_IPV4.find(reading)
            else:
                reason = _FORBIDDEN_IPV6.find(reading) or self._mine.find(reading) or lan.find(reading)
            if not reason and is_own(reading):
                reason = "the box itself"
            if reason:
                return reason
        return ""


def forbidden_of(config: Config) -> Forbidden:
    """What a configuration forbids: whatever its translation prefixes embed, and the LAN as it names it.

    The servers' view of IPv4 clients is the LAN's address space too: nobody else has it.
    """
    known = (
        *(lan.prefix for _name, lan in config.lans()),
        config.lan.client_prefix,
        *(route.to for route in config.route),  # what is behind the LANs' routers
    )
    lan = [network for network in known if isinstance(network, IPv6Network)]
    return Forbidden((TranslationPrefix(entry.prefix) for entry in config.translation), lan)
