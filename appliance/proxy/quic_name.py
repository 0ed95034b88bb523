"""The name that a UDP client says by itself: the server name in the Initials of QUIC."""

from __future__ import annotations

from appliance.protocol.client_hello import ClientHello, Sniff
from appliance.protocol.quic_initial import QuicInitial


class QuicName:
    """What is to be learnt of a flow. ``passes``: whether its datagrams go on meanwhile.

    Those that do not are lost, as on any network: QUIC sends its Initials again.
    """

    __slots__ = ("_quic", "passes")

    def __init__(self, passes: bool) -> None:
        self._quic = QuicInitial()
        self.passes = passes

    def hear(self, datagram: bytes) -> str | None:
        """The name; "" where there is none, or it is no QUIC; None while it may come yet."""
        found = self._quic.feed(datagram)
        if isinstance(found, ClientHello):
            return found.name
        return None if found is Sniff.MORE else ""
