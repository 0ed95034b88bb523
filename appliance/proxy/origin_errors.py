"""What the IPv4 side says of datagrams that were sent to it, as what a client shall be told by ICMPv6."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from socket import (
    AF_INET,
    IPPROTO_ICMP,
    IPPROTO_IP,
    MSG_ERRQUEUE,
    SO_ERROR,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOL_SOCKET,
    inet_aton,
    socket,
)
from typing import Protocol

from appliance.addressing import TranslationPrefix, is_global_ipv4
from appliance.errors import Failure, failure_of
from appliance.protocol import packet as wire
from appliance.proxy.loop import Handler

# Errors taken from one socket before the others have their turn.
MAX_ERRORS = 32

_MAX_PACKET = 2_048  # RFC 1812 section 4.3.2.3: a router's error is no longer than 576 octets
_IP_RECVERR = 11
_SOL_RAW, _ICMP_FILTER = 255, 1
_WANTED = (wire.UNREACHABLE_V4, wire.TIME_EXCEEDED_V4)
_SO_EE_ORIGIN_ICMP = 2
# struct sock_extended_err (linux/errqueue.h), then the offender's sockaddr_in.
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
_ERROR_ROOM = 512


@dataclass(frozen=True, slots=True)
class OriginError:
    """``address``: of the origin that the datagram ``data`` (or its beginning) was for, as six octets.

    ``answer`` is type, code and MTU of ICMPv6, or None where the client is told nothing.
    ``offender`` is who said it, four octets; empty where that was the box itself.
    """

    address: bytes
    data: bytes
    answer: tuple[int, int, int] | None
    offender: bytes

    def source(self, prefix: TranslationPrefix, server: bytes) -> bytes | None:
        """Who shall have said it to a client that wrote to ``server``; None where nobody can be shown.

        That is a hop of the IPv4 side in the address that stands for it, or else the server.
        """
        if not self.offender or self.offender == self.address[:4]:
            return server
        if not prefix.well_known or is_global_ipv4(IPv4Address(self.offender)):
            return prefix.embed_packed(self.offender)
        # A hop without an address that could be shown: traceroute prints a star.
        return None if self.answer is not None and self.answer[0] == wire.TIME_EXCEEDED else server


def parse_error(packet: bytes) -> tuple[bytes, OriginError] | None:
    """An ICMP error about a UDP datagram, as a raw socket gives it: the datagram's source, and what it says.

    The source is an address and a port, six octets. None where it is about something else, or broken.
    """
    start = (packet[0] & 15) * 4
    quoted = packet[start + wire.ICMP_HEADER :]
    if len(quoted) < wire.IPV4_HEADER or quoted[0] >> 4 != 4 or quoted[9] != wire.UDP:
        return None
    ports = (quoted[0] & 15) * 4
    if len(quoted) < ports + wire.UDP_HEADER or wire.ones_sum(packet[start:]):
        return None
    kind, code = packet[start], packet[start + 1]
    mtu = int.from_bytes(packet[start + 6 : start + 8], "big")
    own, offender = quoted[12:16], packet[12:16]
    error = OriginError(
        quoted[16:20] + quoted[ports + 2 : ports + 4],
        quoted[ports + wire.UDP_HEADER :],
        wire.icmp_error_to_v6(kind, code, mtu),
        b"" if offender == own else offender,
    )
    return own + quoted[ports : ports + 2], error


class Listening(Protocol):
    """Who wants to hear of errors."""

    def on_origin_error(self, source: bytes, error: OriginError) -> None:
        """An error about a datagram of ``source`` (IPv4 address and port, six octets)."""


class OriginErrors(Handler):
    """ICMP errors about UDP that come in by the IPv4 side, whosever datagram they are about."""

    def __init__(self, owner: Listening) -> None:
        self._owner = owner
        self._sock = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMP)
        refused = 0xFFFFFFFF & ~sum(1 << kind for kind in _WANTED)
        self._sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", refused))
        self.fd = self._sock.fileno()

    def on_event(self, events: int) -> None:
        """Errors wait."""
        for _ in range(MAX_ERRORS):
            try:
                packet = self._sock.recv(_MAX_PACKET)
            except OSError:
                return
            found = parse_error(packet)
            if found is not None:
                self._owner.on_origin_error(*found)


def read_errors(sock: socket) -> Iterator[OriginError]:
    """Up to MAX_ERRORS of an IPv4 datagram socket's error queue, each once."""
    for _ in range(MAX_ERRORS):
        try:
            data, control, _flags, peer = sock.recvmsg(wire.MAX_QUOTE, _ERROR_ROOM, MSG_ERRQUEUE)
        except OSError:
            # An error that left no message would raise EPOLLERR for ever: read it away.
            sock.getsockopt(SOL_SOCKET, SO_ERROR)
            return
        address = inet_aton(peer[0]) + peer[1].to_bytes(2, "big")
        for level, kind, value in control:
            if level == IPPROTO_IP and kind == _IP_RECVERR and len(value) >= _EXTENDED_ERROR.size:
                yield _queued_error(address, data, value)


def _queued_error(address: bytes, data: bytes, value: bytes) -> OriginError:
    number, origin, kind, code, _pad, info, _data = _EXTENDED_ERROR.unpack_from(value)
    if origin == _SO_EE_ORIGIN_ICMP:
        offender = value[_EXTENDED_ERROR.size + 4 : _EXTENDED_ERROR.size + 8]
        return OriginError(address, data, wire.icmp_error_to_v6(kind, code, info), offender)
    failure = failure_of(number)
    return OriginError(address, data, (1, 0, 0) if failure is Failure.NO_ROUTE else (1, 3, 0), b"")
