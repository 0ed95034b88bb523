"""An *exchange* of the explicit proxy: a request on its way to an origin, and the response on its way back.

It is one session record. An origin's connection that may carry another request goes to the *pool*, under the
user whom it served: an origin that authenticates connections (NTLM, Negotiate) would take the next user for
this one. A connection on which such words fell is not pooled.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from appliance.errors import Failure
from appliance.protocol.http1 import Refused, State
from appliance.protocol.http1.client import ClientLeg
from appliance.protocol.http1.origin import OriginLeg
from appliance.protocol.http1.request import Request
from appliance.protocol.http1.response import Response
from appliance.proxy.arbiter import Judge
from appliance.proxy.body import MIN_LENGTH, SplicedBody
from appliance.proxy.gatekeeper import Client, Gatekeeper
from appliance.proxy.pool import Pooled
from appliance.proxy.relay import EPOLLIN
from appliance.proxy.stream import Owner, Stream
from appliance.session.record import Session

# Looking a member up on its class takes longer than to step on.
_DONE = State.DONE

_SPLICED = MIN_LENGTH

_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))  # RFC 9110 section 9.2.2
# Content-Range, where the whole's length is told (RFC 9110 section 14.4); more digits are no length.
_PART = re.compile(rb"bytes +[0-9]{1,18}-[0-9]{1,18}/([0-9]{1,18})", re.IGNORECASE)
# Authentication that an origin ties to the connection.
_BINDS = re.compile(rb"\b(?:ntlm|negotiate|kerberos)\b", re.IGNORECASE)


class Asker(Owner):
    """The client's side of an exchange: who asked, and hears what came of it."""

    def __init__(self, gate: Gatekeeper, client: Client, stream: Stream) -> None:
        self.gate = gate
        self.client = client
        self.stream = stream
        self.leg = ClientLeg(gate.hop)
        self.judge: Judge | None = None  # of the request, where the policy asks
        self.aliases: tuple[str, ...] = ()  # that led from the asked name to the origin's address

    def upgraded(self, origin: Stream, address: str, reply: bytes, first: bytes) -> None:
        """The origin has switched protocols; ``first``: what it said behind its reply."""

    def failed(self, failure: Failure | Refused, started: bool) -> None:
        """The origin's side broke; ``started``: the client has part of a response already."""

    def retry(self, request: Request) -> None:
        """A pooled connection died before it answered: once more, on a new one."""

    def finished(self, response: Response) -> None:
        """The response is through."""


class Exchange(Owner):
    """The origin's side of one request."""

    __slots__ = (
        "_binds",
        "_http",
        "_pooled",
        "_request",
        "_response",
        "_session",
        "_spliced",
        "_weighed",
        "leg",
        "started",
        "stream",
    )

    def __init__(
        self,
        http: Asker,
        stream: Stream,
        leg: OriginLeg,
        request: Request,
        session: Session,
        pooled: bool,
    ) -> None:
        self._http = http
        self.stream = stream
        self.leg = leg
        self._request = request
        self._session = session
        self._pooled = pooled  # nothing came on it since it was taken from the pool
        self._response: Response | None = None
        self._binds = False
        self._spliced: SplicedBody | None = None
        self._weighed = False  # how large the content is has to be seen
        self.started = False
        stream.owner = self

    def begin(self, body: bytes) -> None:
        """Send the request, and what has come of its body."""
        self.leg.ask(self._request)
        authorization = self._request.field("authorization")
        self._binds = authorization is not None and _BINDS.match(authorization) is not None
        self.send(self._request.wire + body)
        if not (self._pooled or self.stream.closed):
            self.stream.on_event(EPOLLIN)  # what the dialler heard of it is not reported again

    def send(self, data: bytes) -> None:
        """Octets for the origin."""
        self._session.to_wan += len(data)
        self.stream.write(data)

    def abort(self) -> None:
        """Nobody wants the response any more."""
        if self._spliced is not None:
            self._spliced.stop()
            self._spliced = None
        self.stream.abort()

    def on_drained(self, stream: Stream) -> None:
        """The origin takes more of the body."""
        self._http.stream.resume()

    def on_data(self, stream: Stream, data: bytes) -> None:
        """Octets of the origin."""
        http = self._http
        # The rest of the request's body cannot be told from a next request; and neither a worker that drains
        # nor a listener that is no more serves a next one.
        self.leg.closing = http.leg.state is not _DONE or http.gate.draining or http.client.terms.over
        self._pooled = False
        try:
            event = self.leg.feed(data)
        except Refused as refused:
            self.stream.abort()
            http.failed(refused, self.started)
            return
        if event is None:
            if self.leg.state is _DONE:
                self._finish()
            return
        if isinstance(event, Response):
            self._response = event
            if (
                http.judge is not None
                and http.judge.verdict.pending
                and not self._may_pass(http.judge, event)
            ):
                return
            self.started = True
            if event.status == 101:
                http.upgraded(self.stream, self._session.origin, event.wire, self.leg.take())
                return
            if event.status == 401:
                offered = event.field("www-authenticate")
                self._binds = self._binds or (offered is not None and _BINDS.search(offered) is not None)
            out = event.wire
        else:
            out = event
            if self._weighed and http.judge is not None and not self._may_go_on(http.judge):
                return
        self._session.to_lan += len(out)
        http.stream.write(out)
        if http.stream.closed:
            return
        if self.leg.state is _DONE:
            self._finish()
        elif self.leg.left >= _SPLICED and splices(stream, http.stream):
            self._splice(stream, http.stream)
        elif http.stream.full:
            stream.paused = True

    def _may_pass(self, judge: Judge, response: Response) -> bool:
        """Whether the client may have this response; where not, it is told so instead."""
        if response.status < 200 and response.status != 101:
            return True  # it comes before the answer; 101 is one, without content
        self._weighed = response.length < 0
        told = response.status != 101 and not self._weighed  # of a 101 it means nothing, and may be anything
        length = int(response.field("content-length") or b"0") if told else self.leg.content
        # Several parts have their types and their wholes' lengths inside.
        size = max(length, _whole_of(response))
        if not _has_several_parts(response) and judge.allows_content(_kind_of(response), size):
            return True
        self.stream.abort()
        self._http.failed(Failure.DENIED, False)
        return False

    def _may_go_on(self, judge: Judge) -> bool:
        """Whether the client may have what has come of a body of untold length; else it is cut off."""
        response = self._response
        if response is None or judge.allows_content(_kind_of(response), self.leg.content):
            return True
        self.stream.abort()
        self._http.failed(Failure.DENIED, True)
        return False

    def _splice(self, origin: Stream, client: Stream) -> None:
        """The rest of the response's body goes by without being looked at."""
        session = self._session

        def count(octets: int) -> None:
            session.to_lan += octets

        def over() -> None:
            self._spliced = None
            if self.leg.state is _DONE:
                self._finish()

        spliced = SplicedBody(self._http.gate.relay, origin, client, self.leg, count, over)
        self._spliced = spliced
        if not spliced.begin():
            self._spliced = None

    def splice_request(self, client: Stream, body: ClientLeg, heard: Callable[[], None]) -> bool:
        """The rest of the request's body goes by likewise, until the origin says something; False: it is to
        be copied. ``heard`` is called for each piece.
        """
        session = self._session

        def count(octets: int) -> None:
            session.to_wan += octets
            heard()

        def over() -> None:
            self._spliced = None

        if self.started or not splices(client, self.stream):
            return False
        spliced = SplicedBody(self._http.gate.relay, client, self.stream, body, count, over, self.stream)
        self._spliced = spliced
        if not spliced.begin():
            self._spliced = None
            return False
        return True

    @property
    def awaits_body(self) -> bool:
        """A body is spliced, and all that came of it has gone on."""
        return self._spliced is not None and self._spliced.empty

    def on_end(self, stream: Stream) -> None:
        """The origin will send no more."""
        try:
            self.leg.eof()
        except Refused as refused:
            self._lost(refused)
            return
        if self.leg.state is _DONE and self._response is not None:
            self._finish()

    def on_unwritable(self, stream: Stream) -> None:
        """The origin takes no more. What it said first still counts: that the body is too large, mostly."""
        if not stream.paused:
            stream.unsent = b""
            stream.read()
        if not stream.closed:
            stream.broken("reset")

    def on_broken(self, stream: Stream, why: str) -> None:
        """The origin reset the connection."""
        self._lost(Failure.RESET)

    def _lost(self, failure: Failure | Refused) -> None:
        self.stream.close()
        request = self._request
        # A pooled connection may have been closed while the request was on its way: that says nothing.
        if self._pooled:
            self._http.retry(request)
        else:
            self._http.failed(failure, self.started)

    def _finish(self) -> None:
        response = self._response
        assert response is not None
        gate = self._http.gate
        http = self._http
        # Where half a request is on its way, the origin takes the next one for the other half.
        whole = http.leg.state is _DONE and not self.stream.unsent
        if self.leg.reusable and whole and not (self._binds or self.stream.ended):
            key = gate.pool_key(self._request, http.client)
            gate.pool.give(Pooled(key, self.stream, self.leg, self._session.origin, http.aliases))
        else:
            self.stream.close()
        self._http.finished(response)


def _kind_of(response: Response) -> str:
    """Its content's type, without parameters."""
    kind = (response.field("content-type") or b"").partition(b";")[0].strip().lower()
    return kind.decode("latin-1")


def _has_several_parts(response: Response) -> bool:
    """RFC 9110 section 15.3.7.2."""
    return response.status == 206 and _kind_of(response) == "multipart/byteranges"


def may_be_repeated(request: Request) -> bool:
    """Whether it may go out once more where nothing tells whether it arrived: nobody buys twice."""
    return request.method in _IDEMPOTENT and not request.length


def _whole_of(response: Response) -> int:
    """Octets of what it is a part of, or 0: nothing large is to be had in small parts."""
    found = _PART.fullmatch(response.field("content-range") or b"") if response.status == 206 else None
    return int(found[1]) if found is not None else 0


def splices(source: Stream, target: Stream) -> bool:
    """Whether octets can go from one socket to the other without passing through here."""
    return source.tls is None and target.tls is None and not (target.unsent or target.closed or source.ended)
