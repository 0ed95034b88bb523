"""Read a router advertisement off the wire: what an IPv6-only client learns with no setting of its own.

RFC 4861 section 4.2 (the message), RFC 8106 section 5.1 (RDNSS), RFC 8781 section 4 (PREF64).
"""

from __future__ import annotations

import select
import socket
import struct
import time
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

_ALL_ROUTERS = "ff02::2"
_SOLICITATION, _ADVERTISEMENT = 133, 134
_PREFIX, _RDNSS, _PREF64 = 3, 25, 38
_RA_HEAD = 16
# PREF64's length code, RFC 8781 section 4: 0 to 5.
_LENGTHS = (96, 64, 56, 48, 40, 32)
# RFC 4191 section 2.1, by the two bits of it.
_PREFERENCES = ("medium", "high", "reserved", "low")
_ICMPV6_FILTER = 1
# RFC 4861 section 10: solicitations four seconds apart; a second is kinder to whoever watches.
_SOLICIT_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class Advertisement:
    """The parts of an advertisement that the lab looks at."""

    router: IPv6Address
    lifetime: int
    managed: bool  # addresses by DHCPv6
    preference: str  # RFC 4191 section 2.1
    prefixes: tuple[IPv6Network, ...]
    resolvers: tuple[IPv6Address, ...]
    pref64: tuple[IPv6Network, ...]


def parse(message: bytes, router: IPv6Address) -> Advertisement:
    """The advertisement in an ICMPv6 message; ValueError where an option is cut short or empty."""
    if len(message) < _RA_HEAD or message[0] != _ADVERTISEMENT:
        raise ValueError("no router advertisement")
    prefixes: list[IPv6Network] = []
    resolvers: list[IPv6Address] = []
    pref64: list[IPv6Network] = []
    rest = message[_RA_HEAD:]
    while rest:
        if len(rest) < 2 or rest[1] == 0 or len(rest) < rest[1] * 8:
            raise ValueError("an option is cut short")
        kind, body, rest = rest[0], rest[2 : rest[1] * 8], rest[rest[1] * 8 :]
        if kind == _PREFIX:
            prefixes.append(IPv6Network((body[14:30], body[0])))
        elif kind == _RDNSS:
            resolvers += [IPv6Address(body[at : at + 16]) for at in range(6, len(body), 16)]
        elif kind == _PREF64:
            code = struct.unpack("!H", body[:2])[0] & 7
            if code < len(_LENGTHS):
                pref64.append(IPv6Network((body[2:14] + bytes(4), _LENGTHS[code]), strict=False))
    (lifetime,) = struct.unpack("!H", message[6:8])
    managed, preference = bool(message[5] & 0x80), _PREFERENCES[message[5] >> 3 & 3]
    return Advertisement(
        router, lifetime, managed, preference, tuple(prefixes), tuple(resolvers), tuple(pref64)
    )


def solicit(interface: str, timeout: float) -> Advertisement | None:
    """Ask on an interface until a router with a lifetime tells its prefixes; None after timeout seconds.

    The box tells an MTU by an advertisement that has nothing else.
    Runs in the namespace that the calling thread is in.
    """
    index = socket.if_nametoindex(interface)
    deadline = time.monotonic() + timeout
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        # A set bit blocks a type: let only advertisements through.
        allowed = [0xFFFFFFFF] * 8
        allowed[_ADVERTISEMENT // 32] &= ~(1 << (_ADVERTISEMENT % 32)) & 0xFFFFFFFF
        raw.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, struct.pack("8I", *allowed))
        while (now := time.monotonic()) < deadline:
            try:
                raw.sendto(struct.pack("!BBHI", _SOLICITATION, 0, 0, 0), (_ALL_ROUTERS, 0, 0, index))
            except OSError:
                pass  # no link-local address yet, or no carrier: the next try may have both
            if select.select([raw], [], [], min(_SOLICIT_EVERY, deadline - now))[0]:
                message, sender = raw.recvfrom(2048)
                found = parse(message, IPv6Address(sender[0].split("%")[0]))
                if found.lifetime and found.prefixes:
                    return found
    return None
