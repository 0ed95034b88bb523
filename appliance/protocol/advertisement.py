"""What another router says of itself in its advertisement (RFC 4861 section 4.2). Pure.

Whoever is on the LAN wrote it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Network

ADVERTISEMENT = 134
HOP_LIMIT = 255  # RFC 4861 section 6.1.2: it was sent on this link
_HEAD = 16
_SOURCE_ADDRESS, _PREFIX = 1, 3
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
