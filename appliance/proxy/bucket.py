"""What a limit's rate leaves a subject's datagrams, each way: a token bucket.

What is over the rate is dropped, not delayed: *policing*, not *shaping* (RFC 2475 section 2.3.3.3). TCP is
shaped, because a sender waits for what is late; a datagram that is late is mostly worth nothing (calls,
games, time), a queue would only add its length to every one behind, and QUIC and whatever else cares slow
down by the loss. A queue of our own would also be memory that any client could fill.
"""

from __future__ import annotations

# Octets that may pass at once, where the rate gives less in a second. Less loses a video call's key frame,
# more lets a slow rate be passed by for long.
BURST = 65_536


class Bucket:
    """Two of them, one for each direction."""

    __slots__ = ("_filled", "_to_lan", "_to_wan")

    def __init__(self, now: float) -> None:
        self._filled = now
        self._to_wan = self._to_lan = float(BURST)

    def passes(self, rate: int, to_wan: bool, size: int, now: float) -> bool:
        """Whether a datagram of ``size`` octets is within ``rate`` octets a second; it is taken out then."""
        fresh = rate * (now - self._filled)
        most = float(max(rate, BURST))
        self._filled = now
        self._to_wan = min(self._to_wan + fresh, most)
        self._to_lan = min(self._to_lan + fresh, most)
        if to_wan:
            if self._to_wan < size:
                return False
            self._to_wan -= size
        else:
            if self._to_lan < size:
                return False
            self._to_lan -= size
        return True
