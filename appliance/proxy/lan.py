"""Which networks the LAN is, as this moment knows it: a generated prefix stands in no configuration."""

from __future__ import annotations

from ipaddress import IPv6Network
from pathlib import Path

from appliance.policy.forbidden import Networks, lan_networks

ADDRESSES = Path("/proc/net/if_inet6")
# Seconds that an answer is remembered. Longer, and a new prefix would be open for so long.
REMEMBERED = 1.0
# Own addresses that answers are remembered for: a box has a handful.
MAX_REMEMBERED = 256
_LAN_LENGTH = 64


def networks_beside(own: bytes, table: str) -> list[IPv6Network]:
    """The networks of every interface that has the IPv6 address ``own``, which came from one of them.

    ``table``: the text of /proc/net/if_inet6. Without such an interface (the socket is transparent) the /64
    of the address is all that is known.
    """
    entries = [fields for line in table.splitlines() if len(fields := line.split()) == 6]
    devices = {device for address, *_, device in entries if address == own.hex()}
    found = {
        IPv6Network((bytes.fromhex(address), int(length, 16)), strict=False)
        for address, _index, length, _scope, _flags, device in entries
        if device in devices
    }
    found.add(IPv6Network((own, _LAN_LENGTH), strict=False))
    return sorted(found)


class Lan:
    """The networks at the client's end of a connection."""

    def __init__(self, addresses: Path = ADDRESSES) -> None:
        self._addresses = addresses
        self._known: dict[bytes, Networks] = {}
        self._until = 0.0

    def beside(self, own: bytes, now: float) -> Networks:
        """Those at the box's address ``own`` (16 octets), that a client came to; ``now``: monotonic."""
        if now >= self._until or len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
            self._until = now + REMEMBERED
        found = self._known.get(own)
        if found is None:
            try:
                table = self._addresses.read_text()
            except OSError:
                table = ""  # no descriptor, no /proc: the address's own /64 is known yet
            found = self._known[own] = lan_networks(networks_beside(own, table))
        return found
