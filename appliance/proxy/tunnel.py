"""What follows a granted CONNECT, SOCKS request or Upgrade: two connections and the octets between them.

Where neither end is TLS the streams become the legs of the one relay, which splices. Where the client's leg
is encrypted the octets have to pass through OpenSSL: then they are copied from stream to stream.
"""

from __future__ import annotations

from appliance.proxy.context import Context
from appliance.proxy.relay import RelayContext, relay_on
from appliance.proxy.stream import Owner, Stream
from appliance.session.record import CLOSING, Session


def tunnel(
    context: Context, relay: RelayContext, client: Stream, origin: Stream, early: bytes, session: Session
) -> None:
    """Join the two. ``early``: what the client has sent ahead. Both streams' owners hear no more."""
    if client.tls is None and origin.tls is None:
        to_wan, to_lan = origin.unsent + early, client.unsent
        relay_on(relay, client.detach(), origin.detach(), session, to_wan, to_lan)
    else:
        CopiedTunnel(context, client, origin, session).begin(early)


class CopiedTunnel(Owner):
    """Octets from stream to stream; what the slower one does not take stops the other."""

    __slots__ = ("_asked_at", "_client", "_context", "_moved", "_origin", "_session")

    def __init__(self, context: Context, client: Stream, origin: Stream, session: Session) -> None:
        self._context = context
        self._client = client
        self._origin = origin
        self._session = session
        self._moved = -1
        self._asked_at = 0
        client.owner = origin.owner = self
        context.carried_by(session, client.fd, origin.fd)
        self._watch(int(context.now))

    def _watch(self, second: int) -> int:
        """Look again after a lifetime (RFC 6146 section 4)."""
        self._asked_at = second + self._context.config.proxy.timers.tcp_established
        self._context.timers.add(self._asked_at, self._idle)
        return 0

    def _idle(self, second: int) -> int:
        moved = self._session.to_wan + self._session.to_lan
        if moved == self._moved:
            self.abort("idle")
            return 0
        self._moved = moved
        return self._watch(second)

    def _over(self, reason: str) -> None:
        self._context.timers.discard(self._asked_at, self._idle)
        self._context.ended(self._session, reason)

    def begin(self, early: bytes) -> None:
        """Send what came ahead, and read on."""
        if early:
            self.on_data(self._client, early)
        for stream in (self._client, self._origin):
            if stream.ended:
                self.on_end(stream)
            stream.resume()

    def _other(self, stream: Stream) -> Stream:
        return self._origin if stream is self._client else self._client

    def on_data(self, stream: Stream, data: bytes) -> None:
        """Write it on."""
        if stream is self._client:
            self._session.to_wan += len(data)
        else:
            self._session.to_lan += len(data)
        other = self._other(stream)
        other.write(data)
        if other.full:
            stream.paused = True

    def on_drained(self, stream: Stream) -> None:
        """The other may be read again."""
        self._other(stream).resume()

    def on_end(self, stream: Stream) -> None:
        """Pass the half-close on."""
        self._session.state = CLOSING
        other = self._other(stream)
        other.finish()
        if stream.finishing and not stream.unsent:
            stream.close()
        self._maybe_over()

    def on_finished(self, stream: Stream) -> None:
        """Our own half-close is out."""
        self._maybe_over()

    def _maybe_over(self) -> None:
        if self._client.closed and self._origin.closed:
            self._over("closed")

    def on_broken(self, stream: Stream, why: str) -> None:
        """Reset the other end too."""
        self._other(stream).abort()
        self._over(why)

    def kill(self, session: object, reason: str) -> bool:
        """End it, where it is this one."""
        if session is not self._session:
            return False
        self.abort(reason)
        return True

    def abort(self, reason: str) -> None:
        """End both with a reset."""
        self._client.abort()
        self._origin.abort()
        self._over(reason)
