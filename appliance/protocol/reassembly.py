"""Putting a client's fragments together again (RFC 8200 section 4.5), sans-IO.

The kernel has done the hard part before: it collects a packet's fragments to look at its ports, and
cuts it again, in order and without overlaps, on the way into the TUN. So a fragment that does not
follow on the one before it is no honest sender's, and its packet is dropped.
"""

from __future__ import annotations

from appliance.protocol.packet import FRAGMENT, FRAGMENT_HEADER, IPV6_HEADER

# Packets in pieces at one time. They arrive as a batch, so a few are plenty; the oldest goes first.
MAX_PACKETS = 64
MAX_PAYLOAD = 65_535


class Reassembly:
    """Fragments in, whole packets without a fragment header out."""

    __slots__ = ("_parts", "dropped")

    def __init__(self) -> None:
        self._parts: dict[bytes, bytearray] = {}  # by source, destination and identification
        self.dropped = 0  # packets given up

    def add(self, packet: bytes) -> bytes | None:
        """The whole packet when ``packet``, a fragment, is its last piece; otherwise None."""
        body = IPV6_HEADER + FRAGMENT_HEADER
        if len(packet) < body or packet[6] != FRAGMENT:
            self.dropped += 1
            return None
        key = packet[8:40] + packet[44:48]
        place = int.from_bytes(packet[42:44], "big")
        offset, more = place & 0xFFF8, place & 1
        if offset == 0:
            if key in self._parts:
                self.dropped += 1
            elif len(self._parts) >= MAX_PACKETS:
                del self._parts[next(iter(self._parts))]
                self.dropped += 1
            # The header of the whole: the first fragment's, with what the fragment header hid.
            self._parts[key] = bytearray(packet[:6] + packet[40:41] + packet[7:IPV6_HEADER])
        whole = self._parts.get(key)
        if whole is None:
            return None  # counted when its packet was given up
        size = len(whole) - IPV6_HEADER
        if offset != size or size + len(packet) - body > MAX_PAYLOAD or (more and len(packet) % 8):
            del self._parts[key]
            self.dropped += 1
            return None
        whole += packet[body:]
        if more:
            return None
        del self._parts[key]
        whole[4:6] = (len(whole) - IPV6_HEADER).to_bytes(2, "big")
        return bytes(whole)
