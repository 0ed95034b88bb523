"""A transparent session whose client is about to say a name: its verdict may hang on it.

What the client says first is listened to before any of it is passed on. Where it has asked the DNS for
another name than it says now, both have to be allowed, and the record keeps both.

    PAIRED --ClientHello, Host--> the last verdict --allowed--> two legs
           --nothing in time----> the same without one ----denied--> both ends are reset
           --TLS or HTTP whose name cannot be read, where rules ask for names: likewise

The origin may be one that speaks first: its octets wait in the kernel until there are two legs.
"""

from __future__ import annotations

from errno import EAGAIN

from appliance.errors import Failure
from appliance.protocol.sniff import MAX_HEAD, Sniff, may_hide_name, said_by, said_name
from appliance.proxy.context import Context, Destination
from appliance.proxy.loop import Handler
from appliance.proxy.relay import LEG_EVENTS, RelayContext, relay_on
from appliance.session.record import OPEN, Session

# Seconds in which a client that speaks first has spoken, measured from its last octets. Longer would hold up
# protocols whose server speaks first (mail, SSH); shorter would miss the names of clients far away.
LISTEN_TIMEOUT = 0.3
# The same once it has begun as TLS or HTTP do: a packet of it may be lost, and sent again.
BEGUN_TIMEOUT = 10.0
# The record's rule for a client that began so, and whose name cannot be read, where some rule asks for names.
UNREADABLE = "(unreadable)"
# Where clients speak first, and say a name by TLS or HTTP: they are heard also where no verdict hangs on it.
# More ports would hold up protocols whose servers speak first; fewer would leave sessions without a name.
NAMED_PORTS = frozenset({80, 443})


class _Origin(Handler):
    """The origin's socket meanwhile: what it says is reported again to its leg, by ``pump``."""

    def on_event(self, events: int) -> None:
        """Nothing yet."""


_ORIGIN = _Origin()


class Listening(Handler):
    """Two connected sockets (descriptors), no legs yet; ``relayed``: the four-tuples of those that are."""

    __slots__ = (
        "_client",
        "_context",
        "_data",
        "_origin",
        "_over",
        "_relay",
        "_relayed",
        "_session",
        "_target",
        "_timer",
    )

    def __init__(
        self,
        context: Context,
        relay: RelayContext,
        session: Session,
        target: Destination,
        client: int,
        origin: int,
        relayed: set[bytes],
    ) -> None:
        self._context = context
        self._relay = relay
        self._session = session
        self._target = target
        self._client = client
        self._origin = origin
        self._relayed = relayed
        self._data = b""
        self._over = False
        # A repeated SYN of a session that stands is the kernel's to answer.
        relayed.add(session.endpoints)
        context.hand_to(origin, _ORIGIN)
        context.watch(client, self, LEG_EVENTS)
        self._timer = context.at(LISTEN_TIMEOUT, self._in_time)
        self.on_event(0)

    def on_event(self, events: int) -> None:
        """The client has said something, or is gone."""
        kernel = self._context.kernel
        while not self._over:
            size = kernel.receive(self._client)
            if size == -EAGAIN:
                return
            if size < 0:
                self._end("reset")
                return
            self._data += kernel.received(0, size)
            name = said_name(self._data)
            if name is not Sniff.MORE or not size or len(self._data) > MAX_HEAD:
                self._judge(name)
                return
            self._timer.cancel()
            wait = BEGUN_TIMEOUT if may_hide_name(self._data) else LISTEN_TIMEOUT
            self._timer = self._context.at(wait, self._in_time)

    def kill(self, session: object, reason: str) -> bool:
        """End it, where it is this one."""
        if session is not self._session or self._over:
            return False
        self._end(reason)
        return True

    def abandon(self) -> None:
        """No memory."""
        self._end(Failure.MEMORY.value)

    def _in_time(self) -> None:
        if not self._over:
            self._judge(Sniff.MORE)

    def _judge(self, found: str | Sniff) -> None:
        session = self._session
        name = found if isinstance(found, str) else ""
        asked = session.name  # by the DNS, which has been judged
        arbiter = self._context.arbiter
        if name:
            session.say(name, said_by(self._data))
        elif found is not Sniff.NONE and arbiter.asks_names and may_hide_name(self._data):
            self._deny(UNREADABLE)
            return
        if arbiter.asks and (name or not asked):
            verdict = arbiter.packet("tcp", session.client, self._target.packed, session.server_port, name)
            session.rule = verdict.rule
            if not verdict.allow:
                self._deny(verdict.rule)
                return
        self._over = True
        self._timer.cancel()
        session.state = OPEN
        self._context.counters.opened += 1
        data, self._data = self._data, b""
        relay_on(self._relay, self._client, self._origin, session, data)

    def _deny(self, rule: str) -> None:
        self._session.rule = rule
        self._context.counters.count(Failure.DENIED)
        self._end(Failure.DENIED.value)

    def _end(self, reason: str) -> None:
        if self._over:
            return
        self._over = True
        self._timer.cancel()
        context = self._context
        self._relayed.discard(self._session.endpoints)
        for fd in (self._client, self._origin):
            context.kernel.reset_on_close(fd)
            context.bury(fd)
        context.ended(self._session, reason)
