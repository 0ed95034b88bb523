"""IPv4-embedded IPv6 addresses (RFC 6052) and which IPv4 addresses they may carry.

Pure: no I/O. The hot path works on packed bytes, everything else on ``ipaddress`` objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

PREFIX_LENGTHS = (32, 40, 48, 56, 64, 96)
WELL_KNOWN_PREFIX = IPv6Network("64:ff9b::/96")

# RFC 6052 section 2.2: octets of the IPv6 address that carry the four IPv4 octets.
# Octet 8 (bits 64 to 71) is always zero and is stepped over.
_OCTETS: dict[int, tuple[int, int, int, int]] = {
    32: (4, 5, 6, 7),
    40: (5, 6, 7, 9),
    48: (6, 7, 9, 10),
    56: (7, 9, 10, 11),
    64: (9, 10, 11, 12),
    96: (12, 13, 14, 15),
}

# IANA IPv4 Special-Purpose Address Registry, the blocks that are not globally reachable, and
# multicast. Written out, because ipaddress.is_global differs between Python's minor versions.
NON_GLOBAL_IPV4: tuple[IPv4Network, ...] = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# Inside 192.0.0.0/24, but globally reachable by the same registry (RFC 7723, RFC 8155).
_GLOBAL_EXCEPTIONS = frozenset({IPv4Address("192.0.0.9"), IPv4Address("192.0.0.10")})

# Never an origin, whatever the prefix or the rules: this network, loopback, link-local (which holds
# the metadata address 169.254.169.254), multicast, reserved and broadcast.
NEVER_DIALLED_IPV4: tuple[IPv4Network, ...] = tuple(
    IPv4Network(block)
    for block in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")
)


def is_global_ipv4(address: IPv4Address) -> bool:
    """True where the IANA registry calls the address globally reachable."""
    if address in _GLOBAL_EXCEPTIONS:
        return True
    return not any(address in block for block in NON_GLOBAL_IPV4)


def is_never_dialled(address: IPv4Address) -> bool:
    """True for an address that no session may go to: see NEVER_DIALLED_IPV4."""
    return any(address in block for block in NEVER_DIALLED_IPV4)


@dataclass(frozen=True, slots=True)
class TranslationPrefix:
    """A prefix of RFC 6052 section 2.2; raises ValueError with what is wrong.

    ``well_known`` prefixes carry global IPv4 only (section 3.1).
    """

    network: IPv6Network
    well_known: bool = field(init=False)
    _head: bytes = field(init=False, repr=False)
    _octets: tuple[int, int, int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        length = self.network.prefixlen
        if length not in _OCTETS:
            allowed = ", ".join(str(n) for n in PREFIX_LENGTHS)
            raise ValueError(f"a translation prefix is {allowed} bits long (RFC 6052), not {length}")
        packed = self.network.network_address.packed
        if packed[8]:
            raise ValueError("bits 64 to 71 of a translation prefix are zero (RFC 6052 section 2.2)")
        object.__setattr__(self, "well_known", self.network == WELL_KNOWN_PREFIX)
        object.__setattr__(self, "_head", packed[: length // 8])
        object.__setattr__(self, "_octets", _OCTETS[length])

    @classmethod
    def parse(cls, text: str) -> TranslationPrefix:
        """Read ``64:ff9b::/96``; host bits set are an error."""
        return cls(IPv6Network(text))

    def embed_packed(self, ipv4: bytes) -> bytes:
        """Four octets in, the sixteen of the IPv4-embedded address out."""
        out = bytearray(self.network.network_address.packed)
        for position, octet in zip(self._octets, ipv4, strict=True):
            out[position] = octet
        return bytes(out)

    def extract_packed(self, ipv6: bytes) -> bytes | None:
        """Sixteen octets in; the four embedded ones out, or None outside the prefix.

        Bits 64 to 71 must be zero; the suffix is ignored, as section 2.2 asks of a receiver.
        """
        head = self._head
        if ipv6[: len(head)] != head or (len(head) < 12 and ipv6[8]):
            return None
        a, b, c, d = self._octets
        return bytes((ipv6[a], ipv6[b], ipv6[c], ipv6[d]))

    def embed(self, ipv4: IPv4Address) -> IPv6Address:
        """The IPv4-embedded IPv6 address that stands for ``ipv4``."""
        return IPv6Address(self.embed_packed(ipv4.packed))

    def extract(self, ipv6: IPv6Address) -> IPv4Address | None:
        """The IPv4 address inside ``ipv6``, or None outside the prefix."""
        packed = self.extract_packed(ipv6.packed)
        return None if packed is None else IPv4Address(packed)

    def may_carry(self, ipv4: IPv4Address) -> bool:
        """Section 3.1: the well-known prefix never stands for a non-global IPv4 address."""
        if is_never_dialled(ipv4):
            return False
        return not self.well_known or is_global_ipv4(ipv4)
