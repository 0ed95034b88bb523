"""Origins' connections that wait for another request, by whom they serve."""

from __future__ import annotations

from appliance.protocol.http1.origin import OriginLeg
from appliance.proxy.context import Context
from appliance.proxy.stream import Owner, Stream

# Seconds that a connection waits. Origins mostly close after 5 to 75; a request on one that just closed costs
# a second dial.
IDLE_TIMEOUT = 15
# Connections that wait, for one origin and user, and in all: each is a descriptor of ours and of theirs.
MAX_EACH = 32
MAX_ALL = 1_024

# Host, port, user ("" for nobody in particular), and the client where each has a source address of its own.
Key = tuple[str, int, str, bytes]


# The same as C has them, where this is compiled.
_EACH, _ALL = MAX_EACH, MAX_ALL


class Pooled:
    """A connection that may carry another request.

    ``address``: the origin's, as text, for the records; ``aliases``: the names that led to it.
    """

    __slots__ = ("address", "aliases", "key", "leg", "stream", "until")

    def __init__(
        self, key: Key, stream: Stream, leg: OriginLeg, address: str, aliases: tuple[str, ...] = ()
    ) -> None:
        self.key = key
        self.stream = stream
        self.leg = leg
        self.address = address
        self.aliases = aliases
        self.until = 0  # the second that ends it, while it waits


class Pool(Owner):
    """Idle connections; one that says anything, or ends, while it waits is closed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._idle: dict[Key, list[Pooled]] = {}
        self._known: dict[int, Pooled] = {}  # by descriptor, in the order in which they came

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

    def give(self, pooled: Pooled) -> None:
        """Keep a connection that is through with its response."""
        waiting = self._idle.get(pooled.key)
        if waiting is None:
            waiting = self._idle[pooled.key] = []
        if len(waiting) >= _EACH or len(self._known) >= _ALL:
            if not waiting:
                del self._idle[pooled.key]
            pooled.stream.close()
            return
        waiting.append(pooled)
        pooled.until = int(self._context.now) + IDLE_TIMEOUT
        self._known[pooled.stream.fd] = pooled
        pooled.stream.owner = self
        pooled.stream.resume()

    def empty(self) -> None:
        """Close all: what a name led to when they were dialled may be denied by now."""
        for fd in list(self._known):
            stream = self._known[fd].stream
            self._forget(fd)
            stream.close()

    def every_second(self) -> None:
        """Close those that have waited long enough; they stand in the order in which they came."""
        now = self._context.now
        while self._known:
            pooled = next(iter(self._known.values()))
            if pooled.until > now:
                return
            self._forget(pooled.stream.fd)
            pooled.stream.close()

    def _forget(self, fd: int) -> None:
        pooled = self._known.pop(fd)
        waiting = self._idle[pooled.key]
        waiting.remove(pooled)
        if not waiting:
            del self._idle[pooled.key]

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
