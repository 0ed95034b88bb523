"""The end of a connection that was answered for the last time (RFC 9112 section 9.6)."""

from __future__ import annotations

from appliance.proxy.context import Context
from appliance.proxy.stream import Owner, Stream

# Seconds, once all is sent, in which what the client still says is read and dropped. Closed at once, octets
# that were not read would make the kernel send a reset, which can overtake the answer; longer holds a
# descriptor for nothing.
SECONDS = 2
# Seconds in which a client takes nothing of what waits for it, after which it gets no more. Shorter cuts off
# those on poor links, longer holds memory for those that are gone.
STALL = 60


class Lingering(Owner):
    """Sends what waits and the end, and closes when the client has seen it."""

    __slots__ = ("_at", "_context", "_stream", "_waits")

    def __init__(self, context: Context, stream: Stream) -> None:
        self._context = context
        self._stream = stream
        self._waits = -1  # octets that waited when they were last looked at
        self._at = 0  # the second that the timer is for
        stream.owner = self
        context.unsent.add(self)
        stream.finish()
        if stream.closed:
            context.unsent.discard(self)
        elif stream.unsent:
            self._waits = len(stream.unsent)
            self._wait(STALL)
        stream.resume()

    def _wait(self, seconds: int) -> None:
        timers = self._context.timers
        if self._at:
            timers.discard(self._at, self.over)
        self._at = int(self._context.now) + seconds
        timers.add(self._at, self.over)

    def on_finished(self, stream: Stream) -> None:
        """All is sent, and the end."""
        self._context.unsent.discard(self)
        if not stream.closed:
            self._waits = 0
            self._wait(SECONDS)

    def on_end(self, stream: Stream) -> None:
        """The client has seen it."""
        if not stream.unsent:
            stream.close()

    def on_broken(self, stream: Stream, why: str) -> None:
        """It is gone."""
        self._context.unsent.discard(self)

    def over(self, second: int) -> int:
        """It had time enough, unless it has taken something since."""
        waits = len(self._stream.unsent)
        if waits and waits != self._waits:
            self._waits = waits
            self._at = second + STALL
            return self._at
        self._context.unsent.discard(self)
        self._stream.close()
        return 0
