"""The proxy's counters over the last half hour, looked at every few seconds: what the dashboard draws."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

# Between two looks. Shorter costs the workers, who count their sessions for it; longer shows no burst.
EVERY = 5.0
# How far back.
KEPT_SECONDS = 1_800
# Over how long what was not carried is counted.
MINUTE = 60.0
_NOT_CARRIED = ("refused", "unreachable", "denied", "limited")
_TOTALS = ("opened", "bytes_to_wan", "bytes_to_lan", "not_carried")
_KINDS = ("tcp", "udp", "icmp")


class Samples:
    """``ask`` is GetStatus of org.isthmus.proxy, None where it does not answer."""

    def __init__(
        self, ask: Callable[[], dict[str, Any] | None], clock: Callable[[], float] = time.time
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._taken: deque[dict[str, float]] = deque(maxlen=int(KEPT_SECONDS / EVERY) + 1)

    def take(self) -> None:
        """Look once. What does not answer leaves a gap."""
        found = self._ask()
        if found is None:
            return
        counters = found["counters"]
        sample = {name: counters[name] for name in ("opened", "bytes_to_wan", "bytes_to_lan")}
        sample["time"] = self._clock()
        sample["open"] = sum(counters[name] for name in _KINDS)
        sample["not_carried"] = sum(counters[name] for name in _NOT_CARRIED)
        with self._lock:
            self._taken.append(sample)

    def run(self, stop: threading.Event) -> None:
        """Look again and again, until ``stop``."""
        while not stop.wait(EVERY):
            self.take()

    def points(self) -> list[dict[str, Any]]:
        """The type Traffic of each interval, the oldest first; none for one in which the proxy began anew."""
        with self._lock:
            taken = list(self._taken)
        oldest = self._clock() - KEPT_SECONDS
        found = []
        first = 0  # of the minute, in one life of the proxy
        for index in range(1, len(taken)):
            before, now = taken[index - 1], taken[index]
            seconds = now["time"] - before["time"]
            if seconds <= 0 or any(now[name] < before[name] for name in _TOTALS):
                first = index
                continue
            while taken[first]["time"] < now["time"] - MINUTE and first < index - 1:
                first += 1
            if now["time"] < oldest:
                continue
            found.append(
                {
                    "time": now["time"],
                    "open": int(now["open"]),
                    "opened": (now["opened"] - before["opened"]) / seconds,
                    "to_wan": 8 * (now["bytes_to_wan"] - before["bytes_to_wan"]) / seconds,
                    "to_lan": 8 * (now["bytes_to_lan"] - before["bytes_to_lan"]) / seconds,
                    "not_carried": int(now["not_carried"] - taken[first]["not_carried"]),
                }
            )
        return found
