"""Datagrams by the batch: taken off a transparent UDP socket, sent on as whole packets.

No method raises for what the network does: a negative result is an errno. This is the plain
implementation, the reference of ``batch.pyx``, which makes one system call of a whole batch; both have
the same names, limits and results, and the same tests.
"""

from __future__ import annotations

import os
import sys
from errno import EBADMSG
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPV6_HOPLIMIT,
    MSG_DONTWAIT,
    SOCK_DGRAM,
    inet_ntop,
    inet_pton,
    socket,
)

from appliance.protocol import packet as wire

# More would cost more: a datagram has left the processor's caches by the time a long batch is sent on, and
# other sessions have their turn between the batches. Fewer would pay for more system calls. Measured.
BATCH = 8
MAX_DATAGRAM = 65_536
# RFC 791: what fits behind both headers of IPv4.
MAX_TO_ORIGIN = 65_535 - 20 - 8

_ORIGDSTADDR: dict[int, tuple[int, int]] = {AF_INET: (IPPROTO_IP, 20), AF_INET6: (IPPROTO_IPV6, 74)}
# The original destination (struct sockaddr_in6) and the hop limit (int), each with its header.
_CONTROL_ROOM = 128


class Batch:
    """Datagrams in hand. ``family``: AF_INET6 for those of clients, AF_INET for those of origins.

    Of each datagram: its *peer* sent it, its *own* end is where it was sent to.
    """

    def __init__(self, family: int) -> None:
        self._family = family
        self._size = 16 if family == AF_INET6 else 4
        self._received: list[tuple[bytes, bytes, int]] = []  # payload, ends, hop limit
        self._queue: list[tuple[int, bytes]] = []
        self._failures: list[tuple[int, int]] = []

    def receive(self, fd: int) -> int:
        """Take up to BATCH datagrams; how many, or an errno. They replace those in hand.

        The socket tells of each its original destination, and of clients' its hop limit.
        """
        self._received.clear()
        self._queue.clear()
        wanted = _ORIGDSTADDR[self._family]
        with socket(self._family, SOCK_DGRAM, fileno=os.dup(fd)) as sock:
            while len(self._received) < BATCH:
                try:
                    data, control, _flags, peer = sock.recvmsg(MAX_DATAGRAM, _CONTROL_ROOM, MSG_DONTWAIT)
                except OSError as error:
                    return len(self._received) or -(error.errno or EBADMSG)
                own, port, hops = bytes(self._size), b"\0\0", 0
                for level, kind, value in control:
                    if (level, kind) == wanted:
                        port = value[2:4]
                        own = value[8:24] if self._family == AF_INET6 else value[4:8]
                    elif (level, kind) == (IPPROTO_IPV6, IPV6_HOPLIMIT):
                        hops = int.from_bytes(value[:4], sys.byteorder)
                address = inet_pton(self._family, peer[0].partition("%")[0])
                self._received.append((data, address + own + peer[1].to_bytes(2, "big") + port, hops))
        return BATCH

    def ends(self, number: int) -> bytes:
        """Peer's address, own address, peer's port, own port of a datagram: 36 or 12 octets."""
        return self._received[number][1]

    def peer(self, number: int) -> bytes:
        """Who sent it: address and port, 18 or 6 octets."""
        ends = self._received[number][1]
        return ends[: self._size] + ends[-4:-2]

    def own_port(self, number: int) -> int:
        """The port that it was sent to."""
        return int.from_bytes(self._received[number][1][-2:], "big")

    def hop_limit(self, number: int) -> int:
        """The hop limit with which a client's came."""
        return self._received[number][2]

    def size(self, number: int) -> int:
        """Octets of its content."""
        return len(self._received[number][0])

    def payload(self, number: int) -> bytes:
        """Its content."""
        return self._received[number][0]

    def to_origin(self, number: int, ends: bytes, ttl: int) -> None:
        """Send it on by IPv4 with the next ``flush``; at most MAX_TO_ORIGIN octets.

        ``ends``: source, destination, source port, destination port: 12 octets. The kernel puts the
        identification and the header's checksum in.
        """
        self._queue.append((number, wire.udp_v4(ends, self._received[number][0], ttl)))

    def to_client(self, number: int, key: bytes) -> None:
        """Send it on by IPv6 with the next ``flush``, as the answer to what bears ``key``.

        ``key``: client, server, client's port, server's port: 36 octets.
        """
        data = self._received[number][0]
        answer = wire.udp(key[16:32], key[:16], key[34:36] + key[32:34], data)
        self._queue.append((number, answer))

    def flush(self, fd: int) -> int:
        """Send what was queued by a raw socket; how many packets it did not take: see ``failures``."""
        self._failures.clear()
        for number, packet in self._queue:
            six = packet[0] >> 4 == 6
            code = send_packet(fd, packet[24:40] if six else packet[16:20], packet)
            if code < 0:
                self._failures.append((number, -code))
        self._queue.clear()
        return len(self._failures)

    def failures(self) -> list[tuple[int, int]]:
        """Of the last ``flush``: the datagram's number and the errno."""
        return self._failures


def send_packet(fd: int, target: bytes, packet: bytes) -> int:
    """Send one packet to an address of 4 or 16 octets by a raw socket; 0, or an errno."""
    family = AF_INET6 if len(target) == 16 else AF_INET
    try:
        with socket(family, SOCK_DGRAM, fileno=os.dup(fd)) as sock:
            sock.sendto(packet, MSG_DONTWAIT, (inet_ntop(family, target), 0))
    except OSError as error:
        return -(error.errno or EBADMSG)
    return 0
