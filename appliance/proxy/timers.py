"""Timers in buckets of a second: adding and expiring cost O(1) each, whatever their number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# A deadline function gets the current second and returns the second at which it wants to be asked
# again, or 0 when it is done with.
Check = Callable[[int], int]


class Timers:
    """Lazy timers: an object that lives on is asked again at its new deadline, never moved on activity."""

    __slots__ = ("_buckets", "_second")

    def __init__(self, second: int) -> None:
        self._buckets: dict[int, dict[Check, None]] = {}  # in the order in which they came
        self._second = second

    def add(self, at: int, check: Check) -> None:
        """Ask ``check`` at second ``at`` (the next one, if that has passed)."""
        at = max(at, self._second + 1)
        bucket = self._buckets.get(at)
        if bucket is None:
            self._buckets[at] = {check: None}
        else:
            bucket[check] = None

    def discard(self, at: int, check: Check) -> None:
        """Ask it no more at ``at``, if that is to come: what is over would be held in memory until then."""
        bucket = self._buckets.get(at)
        if bucket is not None:
            bucket.pop(check, None)

    def advance(self, second: int) -> None:
        """Ask everything that is due up to ``second``."""
        while self._second < second:
            self._second += 1
            for check in self._buckets.pop(self._second, ()):
                again = check(second)
                if again:
                    self.add(again, check)

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self._buckets.values())

    def stats(self) -> dict[str, Any]:
        """How many buckets and timers there are, for tests and profiling."""
        return {"buckets": len(self._buckets), "timers": len(self)}
