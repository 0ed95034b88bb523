"""Router advertisements (RFC 4861 section 4.2): another router's, and the box's own of an MTU. Pure.

Whoever is on the LAN wrote what is read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Network

SOLICITATION, ADVERTISEMENT = 133, 134
HOP_LIMIT = 255  # RFC 4861 section 6.1.2: it was sent on this link
_HEAD = 16
_SOURCE_ADDRESS, _PREFIX, _MTU = 1, 3, 5
_MANAGED, _OTHER = 0x80, 0x40
_PREFERENCE = {"high": 0x08, "medium": 0x00, "low": 0x18}  # RFC 4191 section 2.1
# More say nothing more to the person who reads them.
MAX_PREFIXES = 8


@dataclass(frozen=True, slots=True)
class Advertisement:
    """``lifetime`` in seconds, 0: it is no default router (any more). ``mac`` may be empty."""

    lifetime: int
    mac: str
    prefixes: tuple[IPv6Network, ...]


def parse(message: bytes) -> Advertisement | None:
    """The advertisement in an ICMPv6 message; None where section 6.1.2 has it discarded, or it is none."""
    if len(message) < _HEAD or message[0] != ADVERTISEMENT or message[1] != 0:
        return None
    (lifetime,) = struct.unpack_from("!H", message, 6)
    mac = ""
    prefixes: list[IPv6Network] = []
    at = _HEAD
    while at < len(message):
        if at + 2 > len(message):
            return None
        kind, length = message[at], message[at + 1] * 8
        if length == 0 or at + length > len(message):
            return None
        body = message[at + 2 : at + length]
        if kind == _SOURCE_ADDRESS and len(body) == 6:
            mac = body.hex(":")
        elif kind == _PREFIX and length == 32 and body[0] <= 128 and len(prefixes) < MAX_PREFIXES:
            (valid,) = struct.unpack_from("!I", body, 2)
            if valid:
                prefixes.append(IPv6Network((body[14:30], body[0]), strict=False))
        at += length
    return Advertisement(lifetime, mac, tuple(prefixes))


@dataclass(frozen=True, slots=True)
class Head:
    """What every advertisement of one router has to say alike: hosts go by the last one that they heard.

    ``lifetime`` in seconds; ``preference``: low, medium or high.
    """

    lifetime: int
    managed: bool
    other: bool
    preference: str


def of_mtu(head: Head, mtu: int) -> bytes:
    """An ICMPv6 message with the MTU option (section 4.6.4); the kernel adds its checksum.

    What it leaves unsaid (zeros in its head, prefixes) hosts keep as they have it.
    """
    flags = _MANAGED * head.managed | _OTHER * head.other | _PREFERENCE[head.preference]
    said = struct.pack("!BBHBBHII", ADVERTISEMENT, 0, 0, 0, flags, head.lifetime, 0, 0)
    return said + struct.pack("!BBHI", _MTU, 1, 0, mtu)


def solicits(message: bytes) -> bool:
    """Whether an ICMPv6 message asks for an advertisement (section 6.1.1)."""
    return len(message) >= 8 and message[0] == SOLICITATION and message[1] == 0
