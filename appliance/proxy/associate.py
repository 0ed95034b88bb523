"""SOCKS 5 UDP ASSOCIATE (RFC 1928 section 7): a client's datagrams to any peer, and the answers back.

    client --header, payload--> [ socket of the association ] --payload--> [ a socket for each peer ] --> peer

The association lives as long as the TCP connection that asked for it. Only the client's own address may use
it, from the port of its first datagram on; a peer's socket is connected, so that nobody else can answer.
A name in QUIC's Initials is judged beside the one that the client writes, as inside a tunnel.
"""

from __future__ import annotations

import ipaddress
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_IP,
    IPPROTO_TCP,
    SO_BINDTODEVICE,
    SO_KEEPALIVE,
    SO_MARK,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    inet_ntop,
    inet_pton,
    socket,
)

from appliance.config.rules import DEFAULT_RULE
from appliance.dataplane import MARK_WAN
from appliance.errors import Failure, failure_of
from appliance.protocol.socks import datagram_header, parse_datagram
from appliance.proxy.access import new_reference
from appliance.proxy.arbiter import Judge
from appliance.proxy.eyeballs import Route
from appliance.proxy.gatekeeper import Client, Gatekeeper
from appliance.proxy.inside import may_say
from appliance.proxy.listening import NAMED_PORTS
from appliance.proxy.loop import Handler
from appliance.proxy.quic_name import QuicName
from appliance.proxy.relay import EPOLLIN
from appliance.proxy.resolver import Answer
from appliance.session.record import OPEN, Session

# Peers of one association; the one that was silent longest makes room. Each is a descriptor.
MAX_PEERS = 64
# Datagrams that wait while a name is looked up: more would be late anyway.
MAX_WAITING = 16
# Taken from one socket before the others have their turn.
MAX_DATAGRAMS = 32
MAX_DATAGRAM = 65_535
# Seconds of silence after which the other end of an association's connection is asked whether it is there,
# how often, and how many questions may stay unanswered: who has left the LAN is noticed in four minutes.
KEEP_ALIVE_AFTER, KEEP_ALIVE_EVERY, KEEP_ALIVE_TRIES = 120, 30, 4
_IP_BIND_ADDRESS_NO_PORT = 24


class Peer(Handler):
    """One destination of an association, by the host and port that the client writes."""

    def __init__(
        self,
        association: Association,
        key: tuple[str, int],
        sock: socket,
        route: Route,
        session: Session,
        judge: Judge | None,
        unnamed: QuicName | None,
    ) -> None:
        """``unnamed``: while the peer may say a name by itself, which ``judge`` is asked about."""
        self._association = association
        self.key = key
        self.sock = sock
        self.fd = sock.fileno()
        self.header = datagram_header(route.address, key[1])
        self.session = session
        self.judge = judge
        self.unnamed = unnamed
        self.last = association.now

    def on_event(self, events: int) -> None:
        """Answers, or an error about what was sent."""
        self._association.answers(self)

    def passes(self, to_wan: bool, size: int) -> bool:
        """Whether a datagram is within the rate that a limit leaves the session; what is not is lost."""
        session = self.session
        return not session.rate or self._association.within_rate(session, to_wan, size)

    def kill(self, session: object, reason: str) -> bool:
        """End it, where it is this one; the client's next datagram begins another."""
        if session is not self.session:
            return False
        self._association.end(self, reason)
        return True


def keep_alive(fd: int) -> None:
    """Have the kernel ask whether the other end of an association's connection is there yet.

    Nothing is said by it for hours, and without an end the association would stay for ever.
    """
    sock = socket(fileno=fd)
    try:
        sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        sock.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, KEEP_ALIVE_AFTER)
        sock.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, KEEP_ALIVE_EVERY)
        sock.setsockopt(IPPROTO_TCP, TCP_KEEPCNT, KEEP_ALIVE_TRIES)
    except OSError:
        pass  # it is over
    finally:
        sock.detach()


class Association(Handler):
    """One client's. ``port`` is where its datagrams are awaited, at the address that it reached us by."""

    def __init__(self, gate: Gatekeeper, client: Client, port: int) -> None:
        """``port``: where the client says it will send from, 0 if it does not. OSError without a socket."""
        self._gate = gate
        self._context = gate.context
        self._client = client
        self._client_port = port
        self._peers: dict[tuple[str, int], Peer] = {}
        self._waiting: dict[tuple[str, int], list[bytes]] = {}  # for a name's address
        self._closed = False
        self._sock = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
        try:
            self._sock.setsockopt(SOL_SOCKET, SO_MARK, MARK_WAN)  # the firewall knows our sockets by it
            self._sock.bind((inet_ntop(AF_INET6, client.own), 0))
            self._context.watch(self._sock.fileno(), self, EPOLLIN)
        except OSError:
            self._sock.close()
            raise
        self.port: int = self._sock.getsockname()[1]

    @property
    def now(self) -> float:
        """Monotonic seconds."""
        return self._context.now

    def within_rate(self, session: Session, to_wan: bool, size: int) -> bool:
        """As of the context."""
        return self._context.within_rate(session, to_wan, size)

    # -- from the client -----------------------------------------------------------------------

    def on_event(self, events: int) -> None:
        """Datagrams of the client's, or of somebody who guessed the port."""
        for _ in range(MAX_DATAGRAMS):
            try:
                packet, (host, port, *_scope) = self._sock.recvfrom(MAX_DATAGRAM)
            except OSError:
                return
            if inet_pton(AF_INET6, host.partition("%")[0]) != self._client.address:
                continue
            if not self._client_port:
                self._client_port = port
            if port != self._client_port:
                continue
            target = parse_datagram(packet)
            if target is not None:
                self._send((target.host, target.port), packet[target.start :])

    def _send(self, key: tuple[str, int], payload: bytes) -> None:
        peer = self._peers.get(key)
        if peer is None:
            waiting = self._waiting.get(key)
            if waiting is not None:
                if len(waiting) < MAX_WAITING:
                    waiting.append(payload)
                return
            self._open(key, payload)
            return
        peer.last = self.now
        if peer.unnamed is not None and not self._learn_name(peer, peer.unnamed, payload):
            return
        if not peer.passes(True, len(payload)):
            return
        try:
            peer.sock.send(payload)
        except BlockingIOError:
            return
        except OSError:
            return  # of an earlier datagram, or this one is too big: lost, as on any network
        peer.session.to_wan += len(payload)

    def _learn_name(self, peer: Peer, unnamed: QuicName, payload: bytes) -> bool:
        """Whether this datagram may go on, to a peer that waits for its name; one that is denied ends."""
        name = unnamed.hear(payload)
        if name is None:
            return unnamed.passes
        peer.unnamed = None
        if may_say(name, "sni", peer.judge, peer.session):
            return True
        self._context.counters.count(Failure.DENIED)
        self.end(peer, Failure.DENIED.value)
        return False

    def _open(self, key: tuple[str, int], payload: bytes) -> None:
        """A new peer: admitted, looked up where it is a name, and then sent to."""
        failure = self._gate.may_go(self._client, key[1], socks=True)
        if failure is not None:
            self._refused(key, failure)
            return
        self._waiting[key] = [payload]
        try:
            literal = ipaddress.ip_address(key[0]).packed
        except ValueError:
            found: list[bytes] = []
            aliases: tuple[str, ...] = ()
            answers = 0
            failed: Failure = Failure.NO_NAME

            def answered(answer: Answer) -> None:
                nonlocal answers, failed, aliases
                answers += 1
                found.extend(answer.addresses)
                failed = answer.failure or failed
                aliases += answer.aliases
                if answers == 2:
                    # IPv4 first: no datagram tells whether a box has IPv6 beyond its own LAN.
                    self._found(key, sorted(found, key=len), failed, aliases)

            self._gate.dialer.resolver.resolve(key[0], answered)
            return
        self._found(key, [literal], Failure.NO_ROUTE)

    def _found(
        self,
        key: tuple[str, int],
        addresses: list[bytes],
        failure: Failure,
        aliases: tuple[str, ...] = (),
    ) -> None:
        """Connect to the first address that may be reached, and send what waits."""
        waiting = self._waiting.pop(key, [])
        rule = ""
        if self._closed:
            return
        judge = self._gate.judge(self._client, "socks", key[0], key[1], kind="udp")
        for address in addresses:
            route = self._gate.dialer.routes.route(
                address, key[0], key[1], self._client.address, self._client.own
            )
            if isinstance(route, Failure):
                failure = route
                continue
            if judge is not None and not judge.allows_address(address, aliases):
                failure, rule = Failure.DENIED, judge.verdict.rule
                continue
            try:
                sock = _connect(route, key[1])
            except OSError as error:
                failure = failure_of(error.errno or 0)
                continue
            self._enter(key, sock, route, judge, waiting)
            return
        self._refused(key, failure, rule if failure is Failure.DENIED else "")

    def _enter(
        self, key: tuple[str, int], sock: socket, route: Route, judge: Judge | None, waiting: list[bytes]
    ) -> None:
        context = self._context
        if len(self._peers) >= MAX_PEERS:
            self.end(min(self._peers.values(), key=lambda other: other.last), "room for others")
        session = context.open("udp", self._client.endpoints, route.text, OPEN)
        session.name, session.user, session.named_by = key[0], self._client.user, "asked"
        session.service, session.origin_port = self._client.listener, key[1]
        session.rule = judge.verdict.rule if judge is not None else DEFAULT_RULE
        unnamed = None
        if judge is not None and judge.verdict.pending:
            unnamed = QuicName(judge.verdict.allow)
        elif self._gate.hears_names and key[1] in NAMED_PORTS:
            unnamed = QuicName(True)
        peer = Peer(self, key, sock, route, session, judge, unnamed)
        try:
            context.watch(peer.fd, peer, EPOLLIN)
        except OSError as error:
            sock.close()
            context.ended(session, failure_of(error.errno or 0).value)
            return
        context.counters.opened += 1
        if context.quotas is not None:
            context.quotas.opened(session)
        self._peers[key] = peer
        self._watch_idle(peer)
        for payload in waiting:
            if self._peers.get(key) is not peer:
                return  # denied by what it said: lost are those behind it, too
            self._send(key, payload)

    def _watch_idle(self, peer: Peer) -> None:
        lifetime = self._context.config.proxy.timers.udp

        def idle(second: int) -> int:
            if self._peers.get(peer.key) is not peer:
                return 0
            left = int(peer.last) + lifetime - second
            if left > 0:
                return second + left
            self.end(peer, "idle")
            return 0

        self._context.timers.add(int(peer.last) + lifetime, idle)

    def _refused(self, key: tuple[str, int], failure: Failure, rule: str = "") -> None:
        """A datagram has no answer that would say so; the log does."""
        client = self._client
        self._context.refused(
            "udp",
            client.address,
            key[0],
            key[1],
            failure,
            rule,
            user=client.user,
            service=client.listener,
            reference=new_reference() if rule else "",
        )

    # -- from the peers --------------------------------------------------------------------------

    def answers(self, peer: Peer) -> None:
        """Datagrams of a peer, with its address before them."""
        for _ in range(MAX_DATAGRAMS):
            try:
                payload = peer.sock.recv(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                continue  # the error of an earlier datagram; there may be answers behind it
            peer.last = self.now
            if not peer.passes(False, len(payload)):
                continue
            peer.session.to_lan += len(payload)
            try:
                self._sock.sendto(
                    peer.header + payload, (inet_ntop(AF_INET6, self._client.address), self._client_port)
                )
            except OSError:
                continue  # lost, as on any network

    # -- the end -------------------------------------------------------------------------------

    def end(self, peer: Peer, reason: str) -> None:
        """It is over; a second time nothing happens."""
        if self._peers.pop(peer.key, None) is not None:
            self._context.bury(peer.fd, peer.sock)
            self._context.ended(peer.session, reason)

    def close(self) -> None:
        """The TCP connection is over."""
        if not self._closed:
            self._closed = True
            for peer in list(self._peers.values()):
                self.end(peer, "closed")
            self._context.bury(self._sock.fileno(), self._sock)


def _connect(route: Route, port: int) -> socket:
    """A socket to one peer; OSError where there is no way.

    Without a mark, unlike the worker's other sockets: connection tracking is what lets its answers in.
    """
    family = AF_INET if len(route.address) == 4 else AF_INET6
    sock = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
    try:
        if route.interface:
            sock.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, route.interface)
        if route.source:
            sock.setsockopt(IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((inet_ntop(family, route.source), 0))
        sock.connect((route.text, port))
    except OSError:
        sock.close()
        raise
    return sock
