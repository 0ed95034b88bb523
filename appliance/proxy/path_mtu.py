"""The greatest packet that reaches a client of the LAN whole."""

from __future__ import annotations

from socket import AF_INET6, IPPROTO_IPV6, SOCK_CLOEXEC, SOCK_DGRAM, inet_ntop, socket

from appliance.protocol.packet import MIN_MTU

# What is known of the way to a client is asked anew after so long; how many clients are remembered.
PATH_MTU_LIFETIME = 10.0
# RFC 8201 section 4: what a packet-too-big said holds for ten minutes.
TOLD_MTU_LIFETIME = 600.0
MAX_PATHS = 4_096

_IPV6_MTU = 24


class PathMtu:
    """By client: the LAN's MTU, or what a router there said."""

    __slots__ = ("_known", "_probe")

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, float]] = {}  # client: MTU, until when
        self._probe = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC)

    def of(self, client: bytes, now: float) -> int:
        """Octets of a whole IPv6 packet."""
        known = self._known.get(client)
        if known is not None and known[1] > now:
            return known[0]
        try:
            self._probe.connect((inet_ntop(AF_INET6, client), 9))
            mtu = self._probe.getsockopt(IPPROTO_IPV6, _IPV6_MTU)
        except OSError:
            mtu = MIN_MTU  # no route just now: the least is always right
        self._keep(client, mtu, now + PATH_MTU_LIFETIME)
        return mtu

    def told(self, client: bytes, mtu: int, now: float) -> None:
        """A packet-too-big about something sent to ``client``; it may only make the MTU smaller."""
        mtu = max(mtu, MIN_MTU)
        if mtu < self.of(client, now):
            self._keep(client, mtu, now + TOLD_MTU_LIFETIME)

    def _keep(self, client: bytes, mtu: int, until: float) -> None:
        if len(self._known) >= MAX_PATHS:
            for old in list(self._known)[: MAX_PATHS // 2]:
                del self._known[old]
        self._known[client] = (mtu, until)
