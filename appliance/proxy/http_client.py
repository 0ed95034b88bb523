"""HTTP by the explicit proxy: a client's requests one after the other, and the origins that answer them.

client ──► ClientLeg ──► who is it? ──► may it? ──► pool or dial ──► OriginLeg ──► origin
       ◄── response ◄────────────────────────────────────────────── response ◄──
"""

from __future__ import annotations

from email.utils import formatdate

from appliance.errors import Failure
from appliance.protocol.error_page import (
    Page,
    asked_page,
    failure_page,
    login_page,
    proxy_status,
    refused_page,
    wants_html,
)
from appliance.protocol.http1 import (
    CONNECTED,
    CONTINUE,
    Kind,
    Refused,
    State,
    answer,
    own_answer,
)
from appliance.protocol.http1.credentials import basic
from appliance.protocol.http1.grammar import bad_request
from appliance.protocol.http1.origin import OriginLeg
from appliance.protocol.http1.request import Request
from appliance.protocol.http1.response import Response
from appliance.proxy.access import ASK_PATH, MAX_FORM
from appliance.proxy.arbiter import Judge
from appliance.proxy.body import MIN_LENGTH
from appliance.proxy.dialer import Dial, Dialled
from appliance.proxy.exchange import Asker, Exchange, may_be_repeated
from appliance.proxy.gatekeeper import Client, Gatekeeper
from appliance.proxy.inside import carry
from appliance.proxy.lingering import Lingering
from appliance.proxy.stream import MAX_UNSENT, NOBODY, Stream
from appliance.proxy.tunnel import tunnel
from appliance.session.record import DIALLING, OPEN, Session, literal_address

# Seconds for a head to come whole, and for the next request to begin. Shorter cuts people on poor links,
# longer holds a descriptor for each client that only wants to hold one.
HEAD_TIMEOUT = 30
IDLE_TIMEOUT = 60
# Seconds in which an exchange moves nothing before it is given up. Origins think for minutes (reports, long
# polls); one that never answers would hold the client and two descriptors for ever.
EXCHANGE_TIMEOUT = 900
# How often a running exchange is looked at.
EXCHANGE_LOOK = 15
# Seconds without an octet of a request's body, while there is room for more. Shorter ends uploads from where
# the radio sleeps, longer holds an origin's connection too.
BODY_TIMEOUT = 60
REALM = "Isthmus"

# Looking a member up on its class takes longer than to step on.
_DONE, _CLOSED, _TUNNEL = State.DONE, State.CLOSED, State.TUNNEL
_BODY, _CHUNKS = State.BODY, State.CHUNKS
_FORWARDS, _TUNNELS, _PAGE, _SELF = Kind.FORWARD, Kind.TUNNEL, Kind.PAGE, Kind.SELF

_MOST_UNSENT, _SPLICED = MAX_UNSENT, MIN_LENGTH


class HttpClient(Asker):
    """A client's connection that speaks HTTP."""

    def __init__(self, gate: Gatekeeper, client: Client, stream: Stream) -> None:
        super().__init__(gate, client, stream)
        self._context = gate.context
        self.request: Request | None = None
        self._by_certificate = bool(client.user)
        self._body = b""  # of the request, for an origin that is being dialled
        self._form = False  # the request asks for access: its body is for us
        self._origin: Exchange | None = None
        self._dial: Dial | None = None
        self._session: Session | None = None
        self._following: Request | None = None  # the next one, if it is here already
        self._serving = False
        self._closing = False
        self._moved = -1  # octets of the exchange when it was last looked at
        self._moved_at = 0  # and the second at which they had changed
        self._deadline = int(self._context.now) + HEAD_TIMEOUT
        self._heard = 0.0  # when octets of the body came last
        self._asked_at = 0  # the second at which the timers will ask; 0: they will not
        stream.owner = self
        self._watch(self._deadline)

    # -- time ----------------------------------------------------------------------------------

    def _watch(self, deadline: int) -> None:
        self._deadline = deadline
        if not self._asked_at:
            self._asked_at = deadline
            self._context.timers.add(deadline, self._check)

    def _unwatch(self) -> None:
        """The connection is over, or no HTTP any more."""
        if self._asked_at:
            self._context.timers.discard(self._asked_at, self._check)
            self._asked_at = 0

    def _check(self, second: int) -> int:
        """Close a client that lets us wait, and give up an exchange in which nothing moves."""
        self._asked_at = 0
        if self.stream.closed or self.leg.state is _TUNNEL:
            return 0
        if self.request is not None:
            if self._lets_us_wait():
                self._refuse(bad_request("The rest of the request did not come in time.", 408))
                return 0
            if self._stalls(second):
                return 0
            self._asked_at = second + EXCHANGE_LOOK
            return self._asked_at
        if second >= self._deadline:
            self._close()
            return 0
        self._asked_at = max(self._deadline, second + 1)
        return self._asked_at

    def _stalls(self, second: int) -> bool:
        """Whether the exchange is given up, as one that has moved nothing for too long."""
        session, origin = self._session, self._origin
        if session is None or origin is None:
            self._moved = -1
            return False  # a dial or a password, which have time-outs of their own
        moved = session.to_wan + session.to_lan
        if moved != self._moved:
            self._moved, self._moved_at = moved, second
        elif second - self._moved_at >= EXCHANGE_TIMEOUT:
            origin.abort()
            self.failed(Failure.TIMEOUT, origin.started)
            return True
        return False

    def _lets_us_wait(self) -> bool:
        """Whether nothing of the request's body came for too long, though there is room for it."""
        if self.leg.state is not _BODY and self.leg.state is not _CHUNKS:
            return False
        origin = self._origin
        room = not self.stream.paused or (origin is not None and origin.awaits_body)
        return room and self._context.now >= self._heard + BODY_TIMEOUT

    # -- the client ----------------------------------------------------------------------------

    def on_data(self, stream: Stream, data: bytes) -> None:
        """Octets of the client."""
        try:
            event = self.leg.feed(data)
        except Refused as refused:
            self._refuse(refused)
            return
        if event is not None:
            self._on_event(event)
        if self.leg.full:
            stream.paused = True

    def _on_event(self, event: Request | bytes) -> None:
        if isinstance(event, bytes):
            self._send_body(event)
        else:
            self._begin(event)

    def on_end(self, stream: Stream) -> None:
        """The client will send no more; the responses that it waits for are sent yet."""
        if self.request is not None and self.leg.state is _DONE:
            return  # ``_done`` sees to it
        if not self.leg.eof() or self.request is None:
            self._end("closed by the client")
            self._close()

    def on_broken(self, stream: Stream, why: str) -> None:
        """The client is gone."""
        self._unwatch()
        self._end(why)

    def on_drained(self, stream: Stream) -> None:
        """The client takes more."""
        origin = self._origin
        if origin is not None:
            origin.stream.resume()
        elif self.request is None and not (self._serving or self._closing):
            self._serve_following()

    def kill(self, session: object, reason: str) -> bool:
        """End the request that is under way, and the connection with it."""
        if self._session is None or session is not self._session:
            return False
        self._unwatch()
        self._end(reason)
        self.stream.abort()
        return True

    # -- a request -----------------------------------------------------------------------------

    def _begin(self, request: Request) -> None:
        self.request = request
        self._heard = self._context.now
        if self.client.terms.over:
            self._close()  # as if it had waited too long: a new connection has the terms of now
        elif request.kind is _PAGE:
            self._own_page(request)
        elif self.client.terms.pages_only:
            why = "This port has the PAC file alone."
            status = ("Proxy-Status", proxy_status("http_request_denied", why))
            self._answer(Page(403, [("Content-Type", "text/plain"), status], why.encode() + b"\n"))
        elif request.kind is _SELF:
            self._answer_raw(own_answer(request, keep=self._keeps()))
        elif self.client.terms.asks_user and not self._certified():
            self._ask_user(request)
        else:
            self._admit(request)

    def _keeps(self) -> bool:
        over = self.gate.draining or self.client.terms.over
        return self.leg.keep and self.leg.state is _DONE and not over

    def _own_page(self, request: Request) -> None:
        path = request.target.partition(b"?")[0]
        page = self.gate.page(path, self.client)
        if page is None:
            self._answer(Page(404, [("Content-Type", "text/plain")], b"There is no such page here.\n"))
        elif request.method not in ("GET", "HEAD"):
            self._answer(Page(405, [("Allow", "GET, HEAD")], b""))
        else:
            self._answer(Page(200, [("Content-Type", page[0]), ("Cache-Control", "no-cache")], page[1]))

    def _certified(self) -> bool:
        """Whether the client's certificate tells the user, and the configuration still has it."""
        return self._by_certificate and self.gate.is_user(self.client.user)

    def _ask_user(self, request: Request) -> None:
        """Have the password of this very request verified; one that was right lately costs no hashing.

        Another proxy sends the requests of all its users by one connection (RFC 9110 section 3.3).
        """
        self.client.user = ""
        if not self.gate.may_ask_password(self.client):
            self._fail(Failure.DENIED)  # only a certificate would have said it
            return
        found = basic(request.credentials)
        if found is None:
            self._answer(login_page(REALM, as_html=self._html()))
            return
        user, password = found

        def verified(right: bool) -> None:
            if self.request is not request or self.stream.closed:
                return
            if right:
                self.client.user = user
                self._admit(request)
            else:
                self._answer(login_page(REALM, as_html=self._html(), wrong=True))

        self.gate.verify(user, password, self.client, verified)

    def _admit(self, request: Request) -> None:
        if request.kind is _FORWARDS and request.target.partition(b"?")[0] == ASK_PATH:
            self._take_form(request, b"")
            return
        failure = self.gate.may_go(self.client, request.port, connect=request.kind is _TUNNELS)
        judge = None if failure is not None else self._judge_for(request)
        self.judge = judge
        if judge is not None and judge.denied:
            failure = Failure.DENIED
        if failure is not None:
            self._fail(failure)
            return
        context = self._context
        session = context.open("tcp", self.client.endpoints, "", DIALLING)
        session.name, session.user, session.service = request.host, self.client.user, self.client.listener
        session.named_by = "asked"
        session.origin_port = request.port
        self._session = session
        if request.kind is _FORWARDS:
            # What may not be repeated goes by a new connection: an old one may just be closed.
            fresh = not may_be_repeated(request)
            pooled = None if fresh else self.gate.pool.take(self.gate.pool_key(request, self.client))
            if pooled is not None:
                self.aliases = pooled.aliases
                address = None if judge is None else literal_address(pooled.address)
                if (
                    judge is not None
                    and address is not None
                    and not judge.allows_address(address, pooled.aliases)
                ):
                    pooled.stream.abort()
                    self._fail(Failure.DENIED)
                    return
                self._exchange(pooled.stream, pooled.leg, pooled.address, True)
                return
        self._dial_origin(request)

    def _take_form(self, request: Request, data: bytes) -> None:
        """Octets of a form that asks for access; it is answered when it is whole."""
        if self._form:
            self._body += data
        else:
            self._form = True
            # What has come with its head, and while a password was verified.
            self._body = request.wire.partition(b"\r\n\r\n")[2] + self._body
        if request.method != "POST" or not 0 < request.length <= MAX_FORM:
            self._refuse(bad_request("This address takes a short form alone.", 405))
        elif len(self._body) >= request.length:
            client = self.client
            said = self.gate.access.ask(client.address, client.user, request.host, self._body)
            self._answer(asked_page(said.value, request.host, as_html=self._html()))

    def _judge_for(self, request: Request) -> Judge | None:
        if request.kind is _TUNNELS:
            return self.gate.judge(self.client, "connect", request.host, request.port)
        url = request.host + request.target.decode("ascii", "replace")
        return self.gate.judge(self.client, "http", request.host, request.port, url)

    def _dial_origin(self, request: Request) -> None:
        def dialled(result: Dialled | Failure) -> None:
            self._dial = None
            if isinstance(result, Failure):
                self._fail(result)
                return
            self.aliases = result.aliases
            stream = Stream(self._context, result.fd, NOBODY)
            self._context.hand_to(result.fd, stream)
            if request.kind is _TUNNELS:
                self._tunnel(stream, result.text, CONNECTED, b"")
            else:
                self._exchange(stream, OriginLeg(self.gate.hop), result.text, False)

        self._dial = self.gate.dialer.dial(
            self.client.address, self.client.own, request.host, request.port, dialled, self.judge
        )

    def _exchange(self, stream: Stream, leg: OriginLeg, address: str, pooled: bool) -> None:
        request, session = self.request, self._session
        assert request is not None
        assert session is not None
        session.origin, session.state = address, OPEN
        if self.judge is not None:
            session.rule = self.judge.verdict.rule
        self._context.counters.opened += 1
        self._context.carried_by(session, self.stream.fd, stream.fd)
        origin = Exchange(self, stream, leg, request, session, pooled)
        self._origin = origin
        if request.expects and not self._body:
            self.stream.write(CONTINUE)
        origin.begin(self._body)
        self._body = b""
        self.stream.resume()

    def _send_body(self, data: bytes) -> None:
        """Octets of the request's body."""
        self._heard = self._context.now
        origin, request = self._origin, self.request
        if self._form and request is not None:
            self._take_form(request, data)
        elif origin is not None:
            origin.send(data)
            if self.leg.left >= _SPLICED and origin.splice_request(self.stream, self.leg, self._body_moved):
                return
            if origin.stream.full:
                self.stream.paused = True
        else:
            self._body += data
            if len(self._body) >= _MOST_UNSENT:
                self.stream.paused = True

    def _body_moved(self) -> None:
        self._heard = self._context.now

    def _tunnel(self, origin: Stream, address: str, reply: bytes, first: bytes) -> None:
        """From here on no HTTP: CONNECT or Upgrade was granted. ``first``: the origin's, behind the reply."""
        session = self._session
        assert session is not None
        self._session = None
        self._unwatch()
        session.origin, session.state = address, OPEN
        if self.judge is not None:
            session.rule = self.judge.verdict.rule
        self._context.counters.opened += 1
        self._context.streams.pop(session.number, None)  # the tunnel says anew what it is carried by
        early = self.leg.tunnel()
        self.stream.write(reply + first)
        if self.stream.closed:
            origin.abort()
            self._context.ended(session, "reset")
            return
        connects = self.request is not None and self.request.kind is _TUNNELS
        self._origin = self.request = None
        session.to_lan += len(first)
        if connects:
            carry(self.gate, self.judge, self.stream, origin, early, session)
        else:
            tunnel(self._context, self.gate.relay, self.stream, origin, early, session)

    # -- the exchange's way back ------------------------------------------------------------------

    def upgraded(self, origin: Stream, address: str, reply: bytes, first: bytes) -> None:
        """The origin has switched protocols."""
        self._tunnel(origin, address, reply, first)

    def failed(self, failure: Failure | Refused, started: bool) -> None:
        """The origin's side broke; ``started``: the client has part of a response already."""
        self._origin = None
        if started:
            end = "cut off by the origin"
            if failure is Failure.DENIED and self.judge is not None and self._session is not None:
                # By how much it is, which was not told before.
                self._session.rule, end = self.judge.verdict.rule, failure.value
                self._context.counters.count(failure)
            self._end(end)
            self._unwatch()
            self.stream.abort()
        elif isinstance(failure, Refused):
            self._answer(refused_page(failure, as_html=self._html()))
        else:
            self._fail(failure)

    def retry(self, request: Request) -> None:
        """A pooled connection died before it answered: once more, on a new one."""
        self._origin = None
        self._dial_origin(request)

    def finished(self, response: Response) -> None:
        """The response is through."""
        self._origin = None
        self._done(response.keep, "closed")

    # -- answers of our own ----------------------------------------------------------------------

    def _html(self) -> bool:
        return self.request is not None and wants_html(self.request.field("accept"))

    def _fail(self, failure: Failure) -> None:
        request = self.request
        assert request is not None
        judge = self.judge
        denied = failure is Failure.DENIED and judge is not None and not judge.verdict.allow
        rule = judge.verdict.rule if judge is not None and denied else ""
        client, context = self.client, self._context
        reference = ""
        if denied:
            device = context.arbiter.device_of(client.address)
            reference = self.gate.access.denied(
                client.address, client.user, device, request.host, request.port, rule
            )
        if self._session is None:
            self._context.refused(
                "tcp",
                client.address,
                request.host,
                request.port,
                failure,
                rule,
                user=client.user,
                service=client.listener,
                reference=reference,
            )
        else:
            self._session.rule, self._session.reference = rule, reference
            self._context.counters.count(failure)
        note = judge.verdict.note if judge is not None and denied else ""
        asks = reference and self.gate.access.asks and request.kind is _FORWARDS
        page = failure_page(
            failure,
            request.host,
            as_html=self._html(),
            rule=rule,
            reference=reference,
            note=note,
            ask=ASK_PATH.decode() if asks else "",
        )
        self._answer(page, failure.value)

    def _refuse(self, refused: Refused) -> None:
        """The client broke the rules: nothing of what it says can be trusted from here on."""
        if self._origin is not None:
            started = self._origin.started
            self._origin.abort()
            self._origin = None
            if started:
                self._end("malformed")
                self._unwatch()
                self.stream.abort()
                return
        self._answer(refused_page(refused, as_html=self._html()), "malformed")

    def _answer(self, page: Page, end: str = "answered") -> None:
        page.fields.append(("Date", formatdate(usegmt=True)))  # RFC 9110 section 6.6.1
        # After a bad request nothing that follows can be trusted to begin where it seems to.
        keep = self._keeps() and page.status not in (400, 403)
        head_only = self.request is not None and self.request.method == "HEAD"
        self._answer_raw(
            answer(page.status, page.fields, page.content, head_only=head_only, keep=keep), keep, end
        )

    def _answer_raw(self, data: bytes, keep: bool | None = None, end: str = "answered") -> None:
        self.stream.write(data)
        self._done(self._keeps() if keep is None else keep, end)

    def _done(self, keep: bool, end: str) -> None:
        """An answer is out: the next request, or the end."""
        self._end(end)
        self.request = None
        self._body = b""
        self._form = False
        if self.stream.closed:
            return
        try:
            following = self.leg.finish(keep)
        except Refused as refused:
            self._refuse(refused)
            return
        if self.leg.state is _CLOSED or (following is None and self.stream.ended):
            self._close()
            return
        self._watch(int(self._context.now) + IDLE_TIMEOUT)
        self._following = following
        if not self._serving:
            self._serve_following()

    def _serve_following(self) -> None:
        """Requests that came already, one after the other: one that is answered at once ends up here again,
        and thousands may have been pipelined.
        """
        self._serving = True
        try:
            while self._following is not None and not self.stream.full:
                following, self._following = self._following, None
                self._on_event(following)
        finally:
            self._serving = False
        if self.stream.full:
            self.stream.paused = True  # a client that asks and asks, and takes no answer, has to
        else:
            self.stream.resume()

    def _end(self, reason: str) -> None:
        """Whatever was under way for this request is over."""
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        if self._origin is not None:
            self._origin.abort()
            self._origin = None
        if self._session is not None:
            self._context.ended(self._session, reason)
            self._session = None

    def _close(self) -> None:
        """This was the last answer."""
        if self._closing or self.stream.closed:
            return
        self._closing = True
        self._unwatch()
        Lingering(self._context, self.stream)
