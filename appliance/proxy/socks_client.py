"""SOCKS by the explicit proxy: one client's connection, from its greeting to the tunnel."""

from __future__ import annotations

from appliance.errors import Failure, failure_of
from appliance.protocol.socks import Command, Credentials, Method, SocksRequest, SocksServer, State
from appliance.proxy.access import new_reference
from appliance.proxy.associate import Association, keep_alive
from appliance.proxy.dialer import Dial, Dialled
from appliance.proxy.gatekeeper import Client, Gatekeeper
from appliance.proxy.inside import carry
from appliance.proxy.stream import NOBODY, Owner, Stream
from appliance.session.record import DIALLING, OPEN, Session

_CLOSED = State.CLOSED

# Seconds until a client has said where it wants to go.
HANDSHAKE_TIMEOUT = 30


class SocksClient(Owner):
    """A client's connection that speaks SOCKS 4, 4a or 5."""

    def __init__(self, gate: Gatekeeper, client: Client, stream: Stream) -> None:
        self._gate = gate
        self._context = gate.context
        self.client = client
        self.stream = stream
        methods: tuple[Method, ...] = (Method.NONE, Method.PASSWORD)
        if gate.needs_user(client):
            # Where only a certificate would do, there is none left to offer.
            methods = (Method.PASSWORD,) if gate.may_ask_password(client) else ()
        self._server = SocksServer(methods)
        self._dial: Dial | None = None
        self._session: Session | None = None
        self._over = False
        self._association: Association | None = None
        stream.owner = self
        self._until = int(self._context.now) + HANDSHAKE_TIMEOUT
        self._context.timers.add(self._until, self._deadline)

    def _settle(self) -> None:
        """It is known how the handshake ends."""
        self._over = True
        self._context.timers.discard(self._until, self._deadline)

    def _deadline(self, _second: int) -> int:
        if not self._over and self._session is None:
            self._fail("timeout")
        return 0

    def on_data(self, stream: Stream, data: bytes) -> None:
        """Octets of the client; what it says beside its association means nothing."""
        server = self._server
        if self._association is not None:
            return
        event = server.feed(data)
        while event is not None:
            if isinstance(event, Credentials):
                self._verify(event)
                break
            if isinstance(event, SocksRequest):
                self._request(event)
                break
            stream.write(event)
            event = server.feed(b"")
        if server.state is _CLOSED:
            self._refused()
        elif server.full:
            stream.paused = True

    def on_end(self, stream: Stream) -> None:
        """A client that ends before its tunnel stands has given up."""
        self._fail("closed by the client")

    def on_broken(self, stream: Stream, why: str) -> None:
        """It is gone."""
        self._fail(why)

    def kill(self, session: object, reason: str) -> bool:
        """A session that is being dialled; those of an association are its own."""
        if self._session is None or session is not self._session:
            return False
        self._fail(reason)
        return True

    def _refused(self) -> None:
        """What the protocol says is out; close behind it."""
        if not self._over:
            self._settle()
            self.stream.owner = NOBODY
            self.stream.finish()
            stream = self.stream

            def close(_second: int) -> int:
                stream.close()
                return 0

            self._context.timers.add(int(self._context.now) + 2, close)

    def _fail(self, reason: str) -> None:
        self._settle()
        if self._association is not None:
            self._association.close()
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        if self._session is not None:
            self._context.ended(self._session, reason)
            self._session = None
        self.stream.close()

    def _verify(self, credentials: Credentials) -> None:
        user = credentials.user.decode("utf-8", "replace")

        def say(right: bool) -> None:
            self.stream.write(self._server.verified(right))
            self.on_data(self.stream, b"")

        def verified(right: bool) -> None:
            if self._over or self.stream.closed:
                return
            if right:
                self.client.user = user
            say(right)

        if self._gate.needs_user(self.client):
            self._gate.verify(user, credentials.password, self.client, verified)
        else:
            # Some clients offer it where nobody is asked, or a certificate has told: it changes nothing.
            say(True)

    def _request(self, request: SocksRequest) -> None:
        context = self._context
        if self.client.terms.over:
            self._fail("the listener is no more")
            return
        if request.command is Command.UDP_ASSOCIATE:
            self._associate(request)
            return
        failure = self._gate.may_go(self.client, request.port, connect=False, socks=True)
        judge = (
            None
            if failure is not None
            else self._gate.judge(self.client, "socks", request.host, request.port)
        )
        rule = ""
        if judge is not None and judge.denied:
            failure, rule = Failure.DENIED, judge.verdict.rule
        if failure is not None:
            client = self.client
            context.refused(
                "tcp",
                client.address,
                request.host,
                request.port,
                failure,
                rule,
                user=client.user,
                service=client.listener,
                reference=new_reference() if rule else "",
            )
            self._answer_failure(request, failure)
            return
        session = context.open("tcp", self.client.endpoints, "", DIALLING)
        session.name, session.user, session.service = request.host, self.client.user, self.client.listener
        session.named_by = "asked"
        session.origin_port = request.port
        self._session = session

        def dialled(result: Dialled | Failure) -> None:
            self._dial = None
            if judge is not None:
                session.rule = judge.verdict.rule
            if isinstance(result, Failure):
                if result is Failure.DENIED and judge is not None and not judge.verdict.allow:
                    session.reference = new_reference()
                context.counters.count(result)
                self._session = None
                context.ended(session, result.value)
                self._answer_failure(request, result)
                return
            origin = Stream(context, result.fd, NOBODY)
            context.hand_to(result.fd, origin)
            session.origin, session.state = result.text, OPEN
            context.counters.opened += 1
            self._settle()
            self._session = None
            self.stream.write(self._server.granted())
            if self.stream.closed:
                origin.abort()
                context.ended(session, "reset")
                return
            carry(self._gate, judge, self.stream, origin, self._server.take(), session)

        self._dial = self._gate.dialer.dial(
            self.client.address, self.client.own, request.host, request.port, dialled, judge
        )

    def _associate(self, request: SocksRequest) -> None:
        try:
            self._association = Association(self._gate, self.client, request.port)
        except OSError as error:
            self._answer_failure(request, failure_of(error.errno or 0))
            return
        self._settle()
        keep_alive(self.stream.fd)
        self.stream.write(self._server.granted(self.client.own, self._association.port))

    def _answer_failure(self, request: SocksRequest, failure: Failure) -> None:
        self.stream.write(self._server.failed(failure))
        self._refused()
