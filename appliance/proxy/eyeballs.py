"""Happy Eyeballs (RFC 8305), the pure part: in which order addresses are tried, and which failure is told."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from appliance.errors import Failure

# The failure that is told of several attempts is the one that says most about the destination, and so about
# what a person could do: that the box has run out of something (nothing was learnt about the destination at
# all); then what somebody answered, the host itself (refused) before a router on the way (prohibited,
# unreachable); then that nobody did. What was not tried, because policy forbids it, comes after what was.
# Last, what one family alone may lack: that a name failed for it, that the box has no route for it (most have
# none for IPv6), that there is no address of it.
MOST_TELLING_FIRST = (
    Failure.MEMORY,
    Failure.DESCRIPTORS,
    Failure.PORTS,
    Failure.RESOURCES,
    Failure.REFUSED,
    Failure.RESET,
    Failure.PORT_UNREACHABLE,
    Failure.PROHIBITED,
    Failure.HOST_UNREACHABLE,
    Failure.TIMEOUT,
    Failure.DENIED,
    Failure.NON_GLOBAL,
    Failure.NAME_TIMEOUT,
    Failure.NAME_FAILED,
    Failure.NO_ROUTE,
    Failure.NO_NAME,
)
_RANKS = {failure: rank for rank, failure in enumerate(MOST_TELLING_FIRST)}


def most_telling(failures: Iterable[Failure]) -> Failure:
    """The one to report; NO_NAME where there is none, for then nothing was there to try."""
    return min(failures, key=lambda failure: _RANKS.get(failure, 0), default=Failure.NO_NAME)


class Route(NamedTuple):
    """Where an attempt goes. Two are the same attempt where they are equal."""

    address: bytes  # packed, 4 or 16 octets
    text: str  # the same to read
    interface: bytes = b""  # to leave by; empty: as the routes say
    source: bytes = b""  # to come from


class Candidates:
    """What is to be tried yet: the families by turns, IPv6 first; each once, in its family's order."""

    __slots__ = ("_four", "_last_was_six", "_seen", "_six")

    def __init__(self) -> None:
        self._six: deque[Route] = deque()
        self._four: deque[Route] = deque()
        self._seen: set[Route] = set()
        self._last_was_six = False

    def __len__(self) -> int:
        return len(self._six) + len(self._four)

    def add(self, route: Route) -> None:
        """One more, behind those of its family."""
        if route not in self._seen:
            self._seen.add(route)
            (self._four if len(route.address) == 4 else self._six).append(route)

    def take(self, six_last: bool = False) -> Route:
        """The next one; ``six_last``: an IPv6 one only where there are no others. IndexError for none."""
        both = self._six and self._four
        six = not (six_last or self._last_was_six) if both else bool(self._six)
        self._last_was_six = six
        return (self._six if six else self._four).popleft()

    def clear(self) -> None:
        """Try nothing more."""
        self._six.clear()
        self._four.clear()
