"""When the MTU of a LAN is told: the times of RFC 4861 section 6.2. Pure: ``now`` in seconds, monotonic.

networkd advertises the LAN and answers solicitations, but has no MTU option: what these times are for goes
beside its advertisements.
"""

from __future__ import annotations

import random

# Section 6.2.1 and section 10, in seconds. The longest interval is a third of the router's lifetime.
MAX_INTERVAL = 600.0
MIN_INTERVAL = 200.0
INITIAL_INTERVAL, INITIAL = 16.0, 3
MAX_DELAY = 0.5
MIN_BETWEEN = 3.0


class Schedule:
    """``due``: when the next one is."""

    def __init__(self, now: float) -> None:
        self.due = now
        self._last = now - MIN_BETWEEN
        self._initial = INITIAL

    def solicited(self, now: float) -> None:
        """A host asks: an answer for all who ask meanwhile, soon, and not too often."""
        soon = max(now + random.uniform(0, MAX_DELAY), self._last + MIN_BETWEEN)  # noqa: S311 - no secret
        self.due = min(self.due, soon)

    def sent(self, now: float) -> None:
        """One was sent, or could not be."""
        self._last = now
        wait = random.uniform(MIN_INTERVAL, MAX_INTERVAL)  # noqa: S311
        if self._initial:
            self._initial -= 1
            wait = min(wait, INITIAL_INTERVAL)
        self.due = now + wait
