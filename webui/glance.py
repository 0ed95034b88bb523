"""The box's status as it stands around every page: seconds old at most, asked for in the background.

Control asks each worker and the resolver for it. With a resolver that is down that takes a second and a
half, on each page, just when somebody comes to mend it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from appliance.control.client import ControlError

# Younger than that it is shown without asking. Shorter asks for each page of somebody who clicks along;
# longer shows a cable that was pulled as plugged in.
FRESH_SECONDS = 3.0
# Older than that the page waits for a new one. In between the old one is shown; the next page has the new.
STALE_SECONDS = 10.0


class Glance:
    """``ask`` is control's GetStatus."""

    def __init__(
        self, ask: Callable[[], dict[str, Any]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._asking = False
        self._seen: tuple[float, dict[str, Any]] | None = None

    def status(self) -> dict[str, Any]:
        """Type Status of org.isthmus.control."""
        with self._lock:
            seen = self._seen
            age = self._clock() - seen[0] if seen else STALE_SECONDS
            refresh = FRESH_SECONDS <= age < STALE_SECONDS and not self._asking
            self._asking = self._asking or refresh
        if seen is None or age >= STALE_SECONDS:
            return self._look()
        if refresh:
            threading.Thread(target=self._refresh, name="status", daemon=True).start()
        return seen[1]

    def forget(self) -> None:
        """After a commit nothing of it need be true any more."""
        with self._lock:
            self._seen = None

    def _look(self) -> dict[str, Any]:
        found = self._ask()
        with self._lock:
            self._seen = (self._clock(), found)
        return found

    def _refresh(self) -> None:
        try:
            self._look()
        except ControlError:
            pass  # the page that waits for it says so
        finally:
            with self._lock:
                self._asking = False
