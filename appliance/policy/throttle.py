"""Lock-out after wrong passwords: a few are free, then each costs a wait that doubles."""

from __future__ import annotations

from dataclasses import dataclass, field

# So many wrong passwords are free: fewer lock out whoever mistypes, more are guesses for nothing.
FREE_FAILURES = 5
# Seconds. The longest wait bounds guesses to some hundred a day, and how long a joker can lock a user out.
FIRST_WAIT = 2.0
MAX_WAIT = 900.0
# Failures are forgotten after this long without one.
FORGET_AFTER = 3_600.0
MAX_TRACKED = 4_096


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last: float = 0.0


@dataclass(slots=True)
class Throttle:
    """Wrong passwords by key (an account, an address); bounded.

    The oldest are forgotten first, and of those that must not wait yet: many tries with names made up would
    let one that is locked out go on.
    """

    _failures: dict[str, _Failures] = field(default_factory=dict)

    def wait(self, key: str, now: float) -> float:
        """Seconds until the key may try again; 0 when it may now."""
        failures = self._failures.get(key)
        if failures is None or failures.count < FREE_FAILURES:
            return 0.0
        if now - failures.last > FORGET_AFTER:
            del self._failures[key]
            return 0.0
        pause = min(FIRST_WAIT * 2.0 ** (failures.count - FREE_FAILURES), MAX_WAIT)
        return max(failures.last + pause - now, 0.0)

    def failed(self, key: str, now: float) -> None:
        """Book a wrong password."""
        failures = self._failures.pop(key, None) or _Failures()
        if now - failures.last > FORGET_AFTER:
            failures.count = 0
        failures.count += 1
        failures.last = now
        self._failures[key] = failures
        while len(self._failures) > MAX_TRACKED:
            free = (one for one, known in self._failures.items() if known.count < FREE_FAILURES)
            del self._failures[next((one for one in free if one != key), next(iter(self._failures)))]

    def succeeded(self, key: str) -> None:
        """Forget the key's failures."""
        self._failures.pop(key, None)
