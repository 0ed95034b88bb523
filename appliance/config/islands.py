"""The resolvers of islands that routes do not lead to: their names are asked by the island's own way out.

unbound cannot bind what it asks for one zone to an interface. So it asks a local address that stands for the
resolver, and isthmus-dns64 passes that on. Control, which writes unbound's configuration, and dns64 agree on
the addresses by this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from appliance.config.schema import Translation

# On addresses of 127.0.0.0/8 that nothing else uses. No dialled socket takes it (ip_local_reserved_ports).
PORT = 5336
_FIRST = int(IPv4Address("127.0.1.1"))


@dataclass(frozen=True, slots=True)
class Passage:
    """What is asked at ``local``, port PORT, is asked of ``resolver``, by the interface, from ``source``."""

    local: IPv4Address
    resolver: IPv4Address
    interface: str | None
    source: IPv4Address | None


def passages(translation: Sequence[Translation]) -> dict[int, tuple[Passage, ...]]:
    """Those of the prefixes (by their place) that have resolvers, and a way out of their own."""
    return {
        place: tuple(
            Passage(
                IPv4Address(_FIRST + (place << 8) + number),
                resolver,
                entry.interface,
                entry.sources[0] if entry.sources else None,
            )
            for number, resolver in enumerate(entry.upstreams)
        )
        for place, entry in enumerate(translation)
        if entry.upstreams and (entry.interface or entry.sources)
    }
