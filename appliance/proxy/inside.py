"""What a client says first inside its tunnel: the name there may be another than the one that it asked for.

    granted --ClientHello, Host--> both names are allowed? --yes--> the tunnel
            --nothing in time----> the asked one alone      --no---> both ends are reset

So a tunnel to an allowed name, or to an address, carries nobody to a denied one; the record keeps both names.
Who asks for an address has its verdict only now, where a rule speaks of names.
"""

from __future__ import annotations

from appliance.errors import Failure
from appliance.protocol.sniff import MAX_HEAD, Sniff, may_hide_name, said_by, said_name
from appliance.proxy.access import new_reference
from appliance.proxy.arbiter import Judge
from appliance.proxy.gatekeeper import Gatekeeper
from appliance.proxy.listening import BEGUN_TIMEOUT, LISTEN_TIMEOUT, NAMED_PORTS, UNREADABLE
from appliance.proxy.stream import Owner, Stream
from appliance.proxy.tunnel import tunnel
from appliance.session.record import Session, literal_address


def carry(
    gate: Gatekeeper, judge: Judge | None, client: Stream, origin: Stream, early: bytes, session: Session
) -> None:
    """Join the two by a tunnel, once it is heard what the client says, where that matters.

    ``early``: what it has sent ahead. Both streams' owners hear no more.
    """
    if (gate.hears_names and session.origin_port in NAMED_PORTS) or (
        judge is not None and judge.verdict.pending
    ):
        Inside(gate, judge, client, origin, session).begin(early)
    else:
        tunnel(gate.context, gate.relay, client, origin, early, session)


def may_say(name: str, named_by: str, judge: Judge | None, session: Session) -> bool:
    """Whether a client may have what it says by itself ("": no name), beside what it asked the proxy for.

    The record has both names, the rule and, of a denial, a reference: the client sees an end alone, so that
    it serves those who speak about this line of the log.
    """
    asked = session.name
    if name not in ("", asked):
        if literal_address(asked) is not None:
            session.name = ""  # no name that this one could differ from
        session.say(name, named_by)
    if judge is not None and (session.name != asked or judge.verdict.pending):
        allowed = judge.allows_name(name)
        session.rule = judge.verdict.rule
        if not allowed:
            session.reference = new_reference()
            return False
    return True


class Inside(Owner):
    """A granted tunnel whose client is listened to; what the origin says meanwhile waits in the kernel."""

    def __init__(
        self, gate: Gatekeeper, judge: Judge | None, client: Stream, origin: Stream, session: Session
    ) -> None:
        self._gate = gate
        self._context = gate.context
        self._judge = judge
        self._client = client
        self._origin = origin
        self._session = session
        self._data = b""
        self._over = False
        client.owner = origin.owner = self
        origin.paused = True
        self._timer = self._context.at(LISTEN_TIMEOUT, self._in_time)

    def begin(self, early: bytes) -> None:
        """Hear what came ahead, and read on."""
        if early:
            self.on_data(self._client, early)
        if not self._over:
            if self._client.ended:
                self._decide(Sniff.MORE)
            else:
                self._client.resume()

    def on_data(self, stream: Stream, data: bytes) -> None:
        """Octets of the client."""
        self._data += data
        name = said_name(self._data)
        if name is not Sniff.MORE or len(self._data) > MAX_HEAD:
            self._decide(name)
        else:
            self._timer.cancel()
            wait = BEGUN_TIMEOUT if may_hide_name(self._data) else LISTEN_TIMEOUT
            self._timer = self._context.at(wait, self._in_time)

    def on_end(self, stream: Stream) -> None:
        """The client says no more; it may still hear."""
        if stream is self._client:
            self._decide(Sniff.MORE)

    def on_broken(self, stream: Stream, why: str) -> None:
        """One of the two is gone."""
        self._end(why)

    def kill(self, session: object, reason: str) -> bool:
        """End it, where it is this one."""
        if session is not self._session or self._over:
            return False
        self._end(reason)
        return True

    def _in_time(self) -> None:
        if not self._over:
            self._decide(Sniff.MORE)

    def _decide(self, found: str | Sniff) -> None:
        session = self._session
        name = found if isinstance(found, str) else ""
        unreadable = not name and found is not Sniff.NONE and may_hide_name(self._data)
        if unreadable and self._context.arbiter.asks_names:
            session.rule = UNREADABLE
            self._context.counters.count(Failure.DENIED)
            self._end(Failure.DENIED.value)
            return
        if not may_say(name, said_by(self._data), self._judge, session):
            self._context.counters.count(Failure.DENIED)
            self._end(Failure.DENIED.value)
            return
        self._over = True
        self._timer.cancel()
        gate, data = self._gate, self._data
        self._data = b""
        tunnel(gate.context, gate.relay, self._client, self._origin, data, session)

    def _end(self, reason: str) -> None:
        if self._over:
            return
        self._over = True
        self._timer.cancel()
        self._client.abort()
        self._origin.abort()
        self._context.ended(self._session, reason)
