"""Origins' connections that wait for another request, by whom they serve."""

from __future__ import annotations

from typing import NamedTuple

from appliance.protocol.http1 import OriginLeg
from appliance.proxy.context import Context
from appliance.proxy.stream import Owner, Stream

# Seconds that a connection waits. Origins mostly close after 5 to 75; a request on one that just closed costs
# a second dial.
IDLE_TIMEOUT = 15
# Connections that wait, for one origin and user, and in all: each is a descriptor of ours and of theirs.
MAX_EACH = 32
MAX_ALL = 1_024

Key = tuple[str, int, str]  # host, port, user ("" for nobody in particular)


class Pooled(NamedTuple):
    """``address``: the origin's, as text, for the records."""

    stream: Stream
    leg: OriginLeg
    address: str


class Pool(Owner):
    """Idle connections; one that says anything, or ends, while it waits is closed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._idle: dict[Key, list[Pooled]] = {}
        self._known: dict[int, tuple[Key, Pooled, int]] = {}  # by descriptor, with the second that ends it

    def take(self, key: Key) -> Pooled | None:
        """The connection that served last, or None."""
        waiting = self._idle.get(key)
        if not waiting:
            return None
        found = waiting.pop()
        if not waiting:
            del self._idle[key]
        del self._known[found.stream.fd]
        return found

    def give(self, key: Key, pooled: Pooled) -> None:
        """Keep a connection that is through with its response."""
        waiting = self._idle.setdefault(key, [])
        if len(waiting) >= MAX_EACH or len(self._known) >= MAX_ALL:
            if not waiting:
                del self._idle[key]
            pooled.stream.close()
            return
        waiting.append(pooled)
        until = int(self._context.now) + IDLE_TIMEOUT
        self._known[pooled.stream.fd] = (key, pooled, until)
        pooled.stream.owner = self
        pooled.stream.resume()

    def every_second(self) -> None:
        """Close those that have waited long enough; they stand in the order in which they came."""
        now = self._context.now
        while self._known:
            fd, (_key, pooled, until) = next(iter(self._known.items()))
            if until > now:
                return
            self._forget(fd)
            pooled.stream.close()

    def _forget(self, fd: int) -> None:
        key, pooled, _until = self._known.pop(fd)
        waiting = self._idle[key]
        waiting.remove(pooled)
        if not waiting:
            del self._idle[key]

    def on_data(self, stream: Stream, data: bytes) -> None:
        """Nobody asked: what came would be taken for the next answer."""
        self._forget(stream.fd)
        stream.close()

    def on_end(self, stream: Stream) -> None:
        """The origin closed it, as it may."""
        self._forget(stream.fd)
        stream.close()

    def on_broken(self, stream: Stream, why: str) -> None:
        """The origin reset it."""
        self._forget(stream.fd)

    def __len__(self) -> int:
        return len(self._known)
