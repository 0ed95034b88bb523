"""The sockets of one LAN: the raw one that hears routers, and the one that is asked by DHCPv6."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from socket import (
    AF_INET6,
    IPPROTO_ICMPV6,
    IPPROTO_IPV6,
    IPV6_HOPLIMIT,
    IPV6_JOIN_GROUP,
    IPV6_MULTICAST_HOPS,
    IPV6_MULTICAST_LOOP,
    IPV6_RECVHOPLIMIT,
    IPV6_V6ONLY,
    SO_BINDTODEVICE,
    SO_RCVBUF,
    SO_REUSEADDR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOL_SOCKET,
    if_nametoindex,
    inet_ntop,
    inet_pton,
    socket,
)

from appliance.lan.schedule import Schedule
from appliance.lan.settings import Link
from appliance.protocol import advertisement, dhcpv6
from appliance.protocol.advertisement import ADVERTISEMENT, HOP_LIMIT, SOLICITATION, Advertisement

SERVER_PORT, CLIENT_PORT = 547, 546
_SERVERS = "ff02::1:2"  # All_DHCP_Relay_Agents_and_Servers
_ALL_NODES, _ALL_ROUTERS = "ff02::1", "ff02::2"
_ICMP6_FILTER = 1
# Messages of one LAN that are looked at in a second, of either kind: some hundred hosts that all wake at once
# need less; a flood costs no more than this.
MAX_PER_SECOND = 200
# Octets that wait in a socket meanwhile.
RECEIVE_ROOM = 64 << 10
_LINK_LOCAL = b"\xfe\x80"
_MAX_ADVERTISEMENT = 1_500


class Listener:
    """Both sockets; OSError where the device is not there. ``close`` it.

    ``schedule``: when hosts are told of the LAN's MTU, where it has one of its own.
    """

    def __init__(self, link: Link, now: float) -> None:
        self.link = link
        self.index = if_nametoindex(link.device)
        self._left = 0
        self._second = 0
        self.schedule = None if link.mtu is None else Schedule(now)
        self._duid = dhcpv6.duid(_mac(link.device))
        self.routers = self._raw()
        try:
            self.questions = self._udp()
        except OSError:
            self.routers.close()
            raise

    def close(self) -> None:
        """Leave the LAN."""
        self.routers.close()
        self.questions.close()

    def _raw(self) -> socket:
        sock = socket(AF_INET6, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMPV6)
        # The kernel hands over what is heard here and nothing else: a bit that is set keeps a type out.
        words = [0xFFFFFFFF] * 8
        for kind in (ADVERTISEMENT,) if self.schedule is None else (ADVERTISEMENT, SOLICITATION):
            words[kind >> 5] &= ~(1 << (kind & 31)) & 0xFFFFFFFF
        try:
            sock.setsockopt(IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *words))
            sock.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, self.link.device.encode())
            sock.setsockopt(SOL_SOCKET, SO_RCVBUF, RECEIVE_ROOM)
            sock.setsockopt(IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1)
            if self.schedule is not None:
                sock.setsockopt(IPPROTO_IPV6, IPV6_MULTICAST_HOPS, HOP_LIMIT)
                sock.setsockopt(IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0)
                self._join(sock, _ALL_ROUTERS)
        except OSError:
            sock.close()
            raise
        return sock

    def _join(self, sock: socket, group: str) -> None:
        sock.setsockopt(
            IPPROTO_IPV6, IPV6_JOIN_GROUP, inet_pton(AF_INET6, group) + struct.pack("=I", self.index)
        )

    def _udp(self) -> socket:
        sock = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
        try:
            sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
            sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            sock.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, self.link.device.encode())
            sock.setsockopt(SOL_SOCKET, SO_RCVBUF, RECEIVE_ROOM)
            if self.link.answers is not None:
                sock.bind(("::", SERVER_PORT))
                self._join(sock, _SERVERS)
        except OSError:
            sock.close()
            raise
        return sock

    def _may(self, now: float) -> bool:
        if int(now) != self._second:
            self._second, self._left = int(now), MAX_PER_SECOND
        self._left -= 1
        return self._left >= 0

    def hear(self, now: float) -> tuple[str, Advertisement] | None:
        """The next advertisement, and the router's address; None for what is none, or does not count.

        BlockingIOError when there is none; ``now``: monotonic.
        """
        message, control, _flags, (address, *_rest) = self.routers.recvmsg(_MAX_ADVERTISEMENT, 64)
        if not self._may(now):
            return None
        hops = next((data for _level, kind, data in control if kind == IPV6_HOPLIMIT), b"")
        router = address.partition("%")[0]
        sent_here = hops == struct.pack("=i", HOP_LIMIT)
        if self.schedule is not None and sent_here and advertisement.solicits(message):
            self.schedule.solicited(now)
            return None
        sent_here = sent_here and _is_link_local(router)
        said = advertisement.parse(message) if sent_here else None
        return None if said is None or router in _own_addresses(self.link.device) else (router, said)

    def advertise(self, now: float) -> None:
        """Tell hosts of the MTU, where it is time to."""
        if self.schedule is None or self.link.mtu is None or now < self.schedule.due:
            return
        self.schedule.sent(now)
        with contextlib.suppress(OSError):  # no carrier, or no address yet: the next one
            message = advertisement.of_mtu(self.link.head, self.link.mtu)
            self.routers.sendto(message, (_ALL_NODES, 0, 0, self.index))

    def answer(self, now: float) -> None:
        """Answer the next question, if it is one. BlockingIOError when there is none."""
        message, (address, _port, _flow, scope) = self.questions.recvfrom(dhcpv6.MAX_MESSAGE + 1)
        host = address.partition("%")[0]
        if self.link.answers is None or not self._may(now) or not _is_link_local(host):
            return
        asked = dhcpv6.question(message, self._duid)
        if asked is not None:
            answer = dhcpv6.reply(asked, self._duid, self.link.answers)
            with contextlib.suppress(OSError):  # it is gone, or its neighbour entry full: it asks again
                self.questions.sendto(answer, (host, CLIENT_PORT, 0, scope))


def _is_link_local(address: str) -> bool:
    return inet_pton(AF_INET6, address)[:2] == _LINK_LOCAL


def _mac(device: str) -> bytes:
    try:
        return bytes.fromhex(Path(f"/sys/class/net/{device}/address").read_text().strip().replace(":", ""))
    except (OSError, ValueError):
        return bytes(6)


def _own_addresses(device: str) -> set[str]:
    """The device's IPv6 addresses, in full form as ``inet_ntop`` has them."""
    found = set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            fields = line.split()
            if len(fields) == 6 and fields[5] == device:
                found.add(inet_ntop(AF_INET6, bytes.fromhex(fields[0])))
    return found
