"""The end of a connection that was answered for the last time (RFC 9112 section 9.6)."""

from __future__ import annotations

from appliance.proxy.context import Context
from appliance.proxy.stream import Owner, Stream

# Seconds in which what the client still says is read and dropped. Closed at once, octets that were not read
# would make the kernel send a reset, which can overtake the answer; longer holds a descriptor for nothing.
SECONDS = 2


class Lingering(Owner):
    """Sends what waits and the end, and closes when the client has seen it."""

    __slots__ = ("_stream",)

    def __init__(self, context: Context, stream: Stream) -> None:
        self._stream = stream
        stream.owner = self
        stream.finish()
        if not stream.closed:
            context.timers.add(int(context.now) + SECONDS, self.over)
        stream.resume()

    def on_end(self, stream: Stream) -> None:
        """The client has seen it."""
        if not stream.unsent:
            stream.close()

    def over(self, _second: int) -> int:
        """It had time enough."""
        self._stream.close()
        return 0
