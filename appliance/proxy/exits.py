"""By what datagrams leave to the IPv4 side: raw sockets, and the address that a route gives them."""

from __future__ import annotations

import os
from socket import (
    AF_INET,
    IPPROTO_IP,
    IPPROTO_RAW,
    SO_SNDBUF,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOL_SOCKET,
    if_nametoindex,
    inet_aton,
    inet_ntoa,
    socket,
)

from appliance.proxy.context import Way

# Room for datagrams on their way out: a burst that the card has not taken yet. The kernel takes its own
# maximum where that is less.
SEND_ROOM = 4 << 20
# The address is asked for anew after so long, so that a flow outlives a new lease; to ask costs four system
# calls. How many answers are remembered; all are forgotten when there are more.
SOURCE_LIFETIME = 5.0
MAX_SOURCES = 16_384

_SO_BINDTODEVICE = 25
_SO_MARK = 36
_IP_MTU = 14


class Exits:
    """``mark``: SO_MARK of all that is sent."""

    def __init__(self, mark: int) -> None:
        self._mark = mark
        # By interface and source; with the interface's index.
        self._exits: dict[tuple[bytes, bytes], tuple[socket, int]] = {}
        self._sources: dict[tuple[bytes, bytes], tuple[bytes, float]] = {}  # by interface and origin

    def exit(self, way: Way, client: bytes) -> int:
        """The raw socket's descriptor; OSError where the interface or the address is not there.

        An interface that went and came again is another one to the kernel: the descriptor stays, what is
        behind it is opened anew.
        """
        place = way.interface, way.source_for(client)
        index = if_nametoindex(way.interface.decode()) if way.interface else 0
        known = self._exits.get(place)
        if known is not None and known[1] == index:
            return known[0].fileno()
        sock = self._open(*place)
        if known is not None:
            os.dup2(sock.fileno(), known[0].fileno(), inheritable=False)
            sock.close()
            sock = known[0]
        self._exits[place] = sock, index
        return sock.fileno()

    def _open(self, interface: bytes, source: bytes) -> socket:
        sock = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_RAW)
        try:
            sock.setsockopt(SOL_SOCKET, SO_SNDBUF, SEND_ROOM)
            sock.setsockopt(SOL_SOCKET, _SO_MARK, self._mark)
            if interface:
                sock.setsockopt(SOL_SOCKET, _SO_BINDTODEVICE, interface)
            if source:
                sock.bind((inet_ntoa(source), 0))  # for rules that route by source
        except OSError:
            sock.close()
            raise
        return sock

    def source(self, way: Way, client: bytes, origin: bytes, now: float) -> bytes:
        """The packed address that a client's datagrams to ``origin`` bear; OSError where no route leads."""
        if way.sources:
            return way.source_for(client)
        place = way.interface, origin
        known = self._sources.get(place)
        if known is not None and known[1] > now:
            return known[0]
        with self._probe(way, origin) as probe:
            found = inet_aton(probe.getsockname()[0])
        if len(self._sources) >= MAX_SOURCES:
            self._sources.clear()
        self._sources[place] = found, now + SOURCE_LIFETIME
        return found

    def mtu(self, way: Way, origin: bytes) -> int:
        """Of the route to ``origin``; OSError where there is none."""
        with self._probe(way, origin) as probe:
            return probe.getsockopt(IPPROTO_IP, _IP_MTU)

    @staticmethod
    def _probe(way: Way, origin: bytes) -> socket:
        """A socket connected to ``origin``, which sends nothing. Connected anew it would keep its address."""
        probe = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC)
        try:
            if way.interface:
                probe.setsockopt(SOL_SOCKET, _SO_BINDTODEVICE, way.interface)
            probe.connect((inet_ntoa(origin), 9))
        except OSError:
            probe.close()
            raise
        return probe
