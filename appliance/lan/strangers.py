"""The routers beside the box that were heard on its LANs. Pure: ``now`` is passed in, in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appliance.protocol.advertisement import Advertisement

# Of all LANs. Somebody who invents routers fills the table, and the first of them are shown.
MAX_STRANGERS = 32
# One that was not heard for so long is gone: the longest interval between advertisements is 1,800 s
# (RFC 4861 section 6.2.1), and one may be lost.
KEPT = 3_700.0


@dataclass(slots=True)
class _Stranger:
    seen: float
    said: Advertisement


class Strangers:
    """By LAN and link-local address."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Stranger] = {}

    def heard(self, lan: str, router: str, said: Advertisement, now: float) -> bool:
        """An advertisement came; True where what is to be shown has changed."""
        key = lan, router
        known = self._known.get(key)
        if not said.lifetime and not said.prefixes:  # it says that it leaves
            return self._known.pop(key, None) is not None
        if known is None and len(self._known) >= MAX_STRANGERS:
            return False
        self._known[key] = _Stranger(now, said)
        return known is None or known.said != said

    def keep(self, lans: set[str], now: float) -> bool:
        """Forget those not heard lately, and of other LANs than these; True where there were some."""
        gone = [key for key, one in self._known.items() if key[0] not in lans or now - one.seen > KEPT]
        for key in gone:
            del self._known[key]
        return bool(gone)

    def plain(self) -> list[dict[str, Any]]:
        """For status.json."""
        return [
            {
                "lan": lan,
                "router": router,
                "mac": one.said.mac,
                "prefixes": [str(prefix) for prefix in one.said.prefixes],
                "default": one.said.lifetime > 0,
            }
            for (lan, router), one in sorted(self._known.items())
        ]
