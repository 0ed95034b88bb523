"""UDP: datagrams of clients and of origins, each kind through one socket of the worker's.

What clients send to a translation prefix comes through a transparent IPv6 socket (TPROXY), what origins
answer to the worker's ports through a transparent IPv4 one, many with one system call. What is sent on
leaves as packets by raw sockets, many with one system call. No flow has a socket of its own.

A *binding* (RFC 6146 section 3.1) is a client's endpoint, address and port, with one of the worker's
ports, so every origin sees the same source port: endpoint-independent mapping. The binding's *flows*, one
for each origin, say who may answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import EAGAIN, EMSGSIZE, ENOBUFS
from functools import partial
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_ICMPV6,
    IPPROTO_RAW,
    SO_SNDBUF,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOL_SOCKET,
    inet_ntop,
    socket,
)
from typing import Any

from appliance.config.rules import DEFAULT_RULE
from appliance.dataplane import MARK_TO_CLIENT, MARK_WAN, udp_ports
from appliance.errors import WIRE, Failure, failure_of
from appliance.protocol import packet as wire
from appliance.proxy.batch import MAX_TO_ORIGIN, Batch, send_packet
from appliance.proxy.context import Context, Destination, Way
from appliance.proxy.exits import SEND_ROOM, SOURCE_LIFETIME, Exits
from appliance.proxy.loop import Handler
from appliance.proxy.origin_errors import OriginError, OriginErrors
from appliance.proxy.path_mtu import PathMtu
from appliance.proxy.quic_name import QuicName
from appliance.proxy.relay import EPOLLIN
from appliance.session.record import OPEN, Session

# Above this a hop limit is a host's default and says nothing; below it somebody counts hops.
TRACEROUTE_HOPS = 32
DEFAULT_TTL = 64
# Ports that are tried at random before the free ones are looked for in order.
PORT_TRIES = 64
# Octets of randomness drawn with one system call.
RANDOM_ROOM = 1_024

_ICMP6_FILTER = 1
_SO_MARK = 36
_QUIC_PORT = 443
_TRACEROUTE_HOPS, _DEFAULT_TTL, _MAX_TO_ORIGIN = TRACEROUTE_HOPS, DEFAULT_TTL, MAX_TO_ORIGIN
_MAX_SMALL = wire.MIN_MTU - wire.IPV6_HEADER - wire.UDP_HEADER
_SOURCE_LIFETIME = SOURCE_LIFETIME


def _packet(key: bytes, payload: bytes, hops: int) -> bytes:
    """A client's packet, for an error to quote."""
    return wire.udp(key[:16], key[16:32], key[32:36], payload, hops)


class Flow:
    """A session of a binding.

    ``key``: client, server, client's port, server's port, as they stand in the client's datagrams.
    ``ends``: source, origin, source port, origin's port, as they stand in ours: 12 octets. ``fresh``: until
    when the source is known to be right. ``unnamed``: while the policy waits for a name.
    """

    __slots__ = (
        "address",
        "binding",
        "ends",
        "fresh",
        "key",
        "last",
        "session",
        "unnamed",
        "way",
    )

    def __init__(
        self, session: Session, binding: Binding, key: bytes, origin: bytes, way: Way, last: float
    ) -> None:
        self.session = session
        self.binding = binding
        self.key = key
        self.address = origin + key[34:36]
        self.ends = b""
        self.fresh = 0.0
        self.unnamed: QuicName | None = None
        self.way = way
        self.last = last

    def idle(self, second: int) -> int:
        """The timer: the second at which to ask again, or 0 when the flow is over."""
        return self.binding.owner.idle(self, second)


class Binding:
    """One client endpoint, and the port that is its on the IPv4 side. ``exit``: a raw socket's descriptor."""

    __slots__ = ("count", "exit", "first", "others", "owner", "place", "port")

    def __init__(self, owner: Datagrams, place: bytes, port: int, leave_by: int) -> None:
        self.owner = owner
        self.place = place
        self.port = port
        self.exit = leave_by
        self.count = 0  # of flows
        # Most bindings have one flow; a dictionary by origin's address is made for the second.
        self.first: Flow | None = None
        self.others: dict[bytes, Flow] | None = None

    def flow_of(self, address: bytes) -> Flow | None:
        """The flow whose origin has this address; None for a stranger's."""
        first = self.first
        if first is not None and first.address == address:
            return first
        return None if self.others is None else self.others.get(address)

    def enter(self, flow: Flow) -> None:
        """One more flow. Of two servers that stand for the same origin the newest has its answers."""
        self.count += 1
        if self.first is None or self.first.address == flow.address:
            self.first = flow
        else:
            if self.others is None:
                self.others = {}
            self.others[flow.address] = flow

    def leave(self, flow: Flow) -> bool:
        """One flow less; True where it was the last."""
        self.count -= 1
        if self.first is flow:
            self.first = None
        elif self.others is not None and self.others.get(flow.address) is flow:
            del self.others[flow.address]
        return self.count == 0


class FromOrigins(Handler):
    """The transparent IPv4 socket as a handler of the loop."""

    __slots__ = ("_owner",)

    def __init__(self, owner: Datagrams) -> None:
        self._owner = owner

    def on_event(self, events: int) -> None:
        """Answers wait."""
        self._owner.answers()


class Datagrams(Handler):
    """The UDP part of a worker."""

    def __init__(self, context: Context, from_clients: int, from_origins: int) -> None:
        """``from_clients``, ``from_origins``: descriptors of the worker's transparent sockets."""
        self._context = context
        self._from_clients = from_clients
        self._from_origins = from_origins
        self._asked = Batch(AF_INET6)
        self._answered = Batch(AF_INET)
        self._exits = Exits(MARK_WAN)
        self._to_clients = socket(AF_INET6, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_RAW)
        self._to_clients.setsockopt(SOL_SOCKET, SO_SNDBUF, SEND_ROOM)
        # Bound, so that the kernel does not look for a source for each packet, which has its own anyway.
        self._to_clients.bind(("::1", 0))
        self._to_clients.setsockopt(SOL_SOCKET, _SO_MARK, MARK_TO_CLIENT)
        self._out = self._to_clients.fileno()
        context.raw = self._out
        # Speaks for the box itself, by an address of the kernel's choice; it hears nothing.
        self._own = socket(AF_INET6, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMPV6)
        self._own.setsockopt(IPPROTO_ICMPV6, _ICMP6_FILTER, b"\xff" * 32)
        self._errors = OriginErrors(self)
        self._flows: dict[bytes, Flow] = {}
        self._bindings: dict[bytes, Binding] = {}
        self._by_port: dict[int, Binding] = {}
        self._ports = range(0)
        self._lifetime = 0
        self._random = b""
        self._drawn = 0
        self._identification = 0
        self.paths = PathMtu()
        context.watch(from_clients, self, EPOLLIN)
        context.watch(from_origins, FromOrigins(self), EPOLLIN)
        context.watch(self._errors.fd, self._errors, EPOLLIN)

    def configure(self, worker: int, workers: int) -> None:
        """Take up what the context was configured with; bindings whose port is another's get others."""
        self._lifetime = self._context.config.proxy.timers.udp
        self._ports = udp_ports(worker, workers)
        published = self._context.published
        for port in [p for p in self._by_port if p not in self._ports or ("udp", p) in published]:
            binding = self._by_port.pop(port)
            binding.port = self._draw_port()
            if binding.port:
                self._by_port[binding.port] = binding
        for flow in self._flows.values():
            flow.fresh = 0.0

    # -- from the client -----------------------------------------------------------------------

    def on_event(self, events: int) -> None:
        """Datagrams of clients wait: one batch, then the others have their turn."""
        batch, flows, now = self._asked, self._flows, self._context.now
        leave_by = -1
        count = batch.receive(self._from_clients)
        for number in range(count):
            hops = batch.hop_limit(number)
            key = batch.ends(number)
            # The kernel did not forward this to us, so the hop that we are is counted here.
            if hops <= 1:
                self._expired(number, key)
                continue
            flow = flows.get(key)
            if flow is None:
                flow = self._open(key, batch.payload(number), hops)
                if flow is None:
                    continue
            if flow.unnamed is not None and not self._learn_name(flow, batch.payload(number), hops):
                continue
            binding = flow.binding
            size = batch.size(number)
            if size > _MAX_TO_ORIGIN or (flow.fresh < now and not self._refresh(flow)):
                self._not_sent(number, EMSGSIZE if size > _MAX_TO_ORIGIN else 0)
                continue
            if binding.exit != leave_by:
                if leave_by >= 0:
                    self._forward(leave_by)
                leave_by = binding.exit
            flow.last = now
            if flow.session.rate and not self._context.within_rate(flow.session, True, size):
                continue
            flow.session.to_wan += size
            batch.to_origin(number, flow.ends, hops - 1 if hops <= _TRACEROUTE_HOPS else _DEFAULT_TTL)
        if leave_by >= 0:
            self._forward(leave_by)

    def _forward(self, leave_by: int) -> None:
        batch = self._asked
        if batch.flush(leave_by):
            for number, code in list(batch.failures()):
                if code == EMSGSIZE:
                    self._in_pieces(number)
                elif code not in (EAGAIN, ENOBUFS):  # no room just now: lost, as on any network
                    self._not_sent(number, code)

    def _in_pieces(self, number: int) -> None:
        """A datagram over the MTU of its way. No DF: a client knows nothing of the IPv4 side's MTU."""
        batch = self._asked
        flow = self._flows.get(batch.ends(number))
        if flow is None:
            return  # it ended by a later datagram of this batch
        self._send_alone(flow, batch.payload(number), batch.hop_limit(number))

    def _send_alone(self, flow: Flow, payload: bytes, hops: int) -> None:
        """A client's datagram outside of any batch."""
        whole = wire.udp_v4(flow.ends, payload, min(hops - 1, DEFAULT_TTL))
        try:
            mtu = self._exits.mtu(flow.way, flow.address[:4])
        except OSError as error:
            failure = failure_of(error.errno or 0)
            self._context.answer_error(failure, _packet(flow.key, payload, hops))
            return
        for piece in wire.fragments_v4(whole, self._draw() or 1, mtu):
            send_packet(flow.binding.exit, flow.address[:4], piece)

    def _original(self, number: int, key: bytes) -> bytes:
        """The client's packet, for an error to quote."""
        batch = self._asked
        return _packet(key, batch.payload(number), batch.hop_limit(number))

    def _not_sent(self, number: int, code: int) -> None:
        """Tell the client why. ``code``: an errno; 0 where there is no route."""
        failure = failure_of(code) if code else Failure.NO_ROUTE
        self._context.answer_error(failure, self._original(number, self._asked.ends(number)))

    def _expired(self, number: int, key: bytes) -> None:
        """RFC 4443 section 3.3, said by the box, as the router that it is to the client."""
        if self._context.may_send_error():
            quote = self._original(number, key)[: wire.MAX_QUOTE]
            try:
                # The kernel puts the checksum in.
                message = bytes((wire.TIME_EXCEEDED, 0)) + bytes(6) + quote
                self._own.sendto(message, (inet_ntop(AF_INET6, key[:16]), 0))
            except OSError:
                return  # lost, as on any network

    def on_too_big(self, key: bytes, mtu: int) -> None:
        """A router of the LAN says that an answer to what bears ``key`` was too big."""
        if key in self._flows:
            self.paths.told(key[:16], mtu, self._context.now)

    # -- new flows -----------------------------------------------------------------------------

    def _open(self, key: bytes, payload: bytes, hops: int) -> Flow | None:
        """A new flow, within its binding; where there may be none the client is told.

        None too where whose device it is has to be known first: the datagram comes again by ``_again``.
        """
        context = self._context
        target = context.destination(key[16:32])
        # RFC 4291 section 2.5.6: what bears a link-local address may not leave its link.
        if target is None or (key[0] == 0xFE and key[1] & 0xC0 == 0x80):
            context.counters.malformed += 1
            return None
        if context.arbiter.judges_devices and context.put_off(
            key[:16], partial(self._again, key, payload, hops)
        ):
            return None
        name = context.arbiter.name_of(key[:16], key[16:32], target.packed)
        flow, failure, rule = self._try_open(key, target, name)
        if flow is None:
            port = int.from_bytes(key[34:36], "big")
            context.refused("udp", key[:16], target.origin, port, failure, rule, name)
            kind = shown(failure)
            if WIRE[kind].icmpv6 is not None:
                context.answer_error(kind, _packet(key, payload, hops))
        return flow

    def _again(self, key: bytes, payload: bytes, hops: int) -> None:
        """A datagram that was put off: the first of its flow, or one behind it."""
        flow = self._flows.get(key)
        if flow is None:
            flow = self._open(key, payload, hops)
        if flow is None or (flow.unnamed is not None and not self._learn_name(flow, payload, hops)):
            return
        flow.last = self._context.now
        if flow.fresh < flow.last and not self._refresh(flow):
            self._context.answer_error(Failure.NO_ROUTE, _packet(key, payload, hops))
            return
        size = len(payload)
        if flow.session.rate and not self._context.within_rate(flow.session, True, size):
            return
        flow.session.to_wan += size
        self._send_alone(flow, payload, hops)

    def _try_open(self, key: bytes, target: Destination, name: str) -> tuple[Flow | None, Failure, str]:
        """A new flow; or why there is none, and the rule that says so. ``name``: as of ``name_of``."""
        context = self._context
        failure = target.failure or context.admit(key[:16])
        if failure is not None:
            return None, failure, ""
        server_port = int.from_bytes(key[34:36], "big")
        if context.is_own(target.origin) and ("udp", server_port) not in context.published:
            return None, Failure.DENIED, ""
        rule = DEFAULT_RULE
        unnamed = None
        if context.arbiter.asks:
            verdict = context.arbiter.packet("udp", key[:16], target.packed, server_port, name or None)
            rule = verdict.rule
            if verdict.pending:
                unnamed = QuicName(verdict.allow)
            elif not verdict.allow:
                return None, Failure.DENIED, rule
            elif name and server_port == _QUIC_PORT:
                unnamed = QuicName(True)  # it may say another name than it asked the DNS for
        place = key[:16] + key[32:34] + target.way.place
        binding = self._bindings.get(place)
        if binding is None:
            try:
                leave_by = self._exits.exit(target.way, key[:16])
            except OSError as error:
                return None, failure_of(error.errno or 0), ""
            port = self._draw_port()
            if not port:
                return None, Failure.PORTS, ""
            binding = self._bind(place, port, leave_by)
        session = context.open("udp", key, target.origin, OPEN)
        session.rule = rule
        if name:
            session.name, session.named_by = name, "dns"
        if context.quotas is not None:
            context.quotas.opened(session)
        flow = Flow(session, binding, key, target.packed, target.way, context.now)
        flow.unnamed = unnamed
        context.counters.opened += 1
        self._enter(flow)
        return flow, Failure.RESOURCES, ""

    def _learn_name(self, flow: Flow, payload: bytes, hops: int) -> bool:
        """Whether this datagram of a flow that waits for its name may go on; a flow that is denied ends."""
        unnamed = flow.unnamed
        assert unnamed is not None
        name = unnamed.hear(payload)
        if name is None:
            return unnamed.passes
        flow.unnamed = None
        context, session = self._context, flow.session
        if name:
            session.say(name, "sni")
        elif session.name:
            return True  # judged by what it asked the DNS for
        verdict = context.arbiter.packet("udp", session.client, flow.address[:4], session.server_port, name)
        session.rule = verdict.rule
        if verdict.allow:
            return True
        context.counters.count(Failure.DENIED)
        self._end(flow, Failure.DENIED.value)
        context.answer_error(Failure.DENIED, _packet(flow.key, payload, hops))
        return False

    def _bind(self, place: bytes, port: int, leave_by: int) -> Binding:
        binding = Binding(self, place, port, leave_by)
        self._bindings[place] = binding
        self._by_port[port] = binding
        return binding

    def _enter(self, flow: Flow) -> None:
        """Into the tables, with the timer that ends it."""
        self._flows[flow.key] = flow
        flow.binding.enter(flow)
        self._context.timers.add(int(flow.last) + self._lifetime, flow.idle)

    def _refresh(self, flow: Flow) -> bool:
        """Ask by what address the flow leaves; False where no route leads to its origin."""
        now = self._context.now
        port = flow.binding.port
        try:
            flow.binding.exit = self._exits.exit(flow.way, flow.key[:16])
            source = self._exits.source(flow.way, flow.key[:16], flow.address[:4], now)
        except OSError:
            return False
        flow.ends = source + flow.address[:4] + port.to_bytes(2, "big") + flow.address[4:]
        flow.fresh = now + _SOURCE_LIFETIME
        return port != 0

    def _draw(self) -> int:
        """A random number of 16 bits."""
        if self._drawn >= len(self._random):
            self._random = os.urandom(RANDOM_ROOM)
            self._drawn = 0
        self._drawn += 2
        return int.from_bytes(self._random[self._drawn - 2 : self._drawn], "big")

    def _draw_port(self) -> int:
        """A free port of the worker's (RFC 6056 section 3.3.2), or 0."""
        ports, taken, published = self._ports, self._by_port, self._context.published
        for _ in range(PORT_TRIES):
            port = ports.start + (self._draw() * len(ports) >> 16)
            if port not in taken and ("udp", port) not in published:
                return port
        for port in ports:
            if port not in taken and ("udp", port) not in published:
                return port
        return 0

    # -- from the origin -----------------------------------------------------------------------

    def answers(self) -> None:
        """One batch of datagrams of origins; those of strangers are dropped."""
        batch, by_port, now = self._answered, self._by_port, self._context.now
        count = batch.receive(self._from_origins)
        for number in range(count):
            binding = by_port.get(batch.own_port(number))
            if binding is None:
                continue
            flow = binding.flow_of(batch.peer(number))
            if flow is None:
                continue
            size = batch.size(number)
            flow.last = now
            if flow.session.rate and not self._context.within_rate(flow.session, False, size):
                continue
            flow.session.to_lan += size
            if size <= _MAX_SMALL or size + 48 <= self.paths.of(flow.key[:16], now):
                batch.to_client(number, flow.key)
            else:
                key = flow.key
                ports = key[34:36] + key[32:34]
                self.send_to_client(wire.udp(key[16:32], key[:16], ports, batch.payload(number)))
        if count > 0:
            batch.flush(self._out)  # what the LAN has no room for is lost, as on any network

    def send_to_client(self, answer: bytes) -> None:
        """Send a whole packet, in pieces where the way to the client asks for it."""
        client = answer[24:40]
        self._identification = (self._identification + 1) & 0xFFFFFFFF
        mtu = self.paths.of(client, self._context.now)
        for piece in wire.fragments(answer, self._identification, mtu):
            send_packet(self._out, client, piece)

    def on_origin_error(self, source: bytes, error: OriginError) -> None:
        """What the IPv4 side says of a datagram of ours: to the client as ICMPv6."""
        context = self._context
        binding = self._by_port.get(int.from_bytes(source[4:], "big"))
        flow = None if binding is None else binding.flow_of(error.address)
        if flow is None or error.answer is None or flow.ends[:4] != source[:4]:
            return
        key = flow.key
        sayer = error.source(flow.way.prefix, key[16:32])
        if sayer is None or not context.may_send_error():
            return
        kind, code, mtu = error.answer
        original = wire.udp(key[:16], key[16:32], key[32:36], error.data)
        context.write(wire.icmpv6_error(sayer, kind, code, original, mtu))

    # -- from one worker to the next -------------------------------------------------------------

    def drain(self) -> None:
        """Hear of no more datagrams; those that wait are the next worker's."""
        for fd in (self._from_clients, self._from_origins):
            self._context.ignore(fd)
            self._context.bury(fd)
        self._context.ignore(self._errors.fd)

    def hand_over(self) -> Iterator[tuple[dict[str, Any], int | None]]:
        """Every flow, as what ``adopt`` of another worker takes."""
        context = self._context
        for flow in self._flows.values():
            session = flow.session
            yield (
                {
                    "kind": "udp",
                    "key": flow.key.hex(),
                    "port": flow.binding.port,
                    "last": flow.last,
                    "waits": None if flow.unnamed is None else flow.unnamed.passes,
                    **session.heirloom(),
                },
                None,
            )
            context.drop(session)
        self._flows.clear()
        self._bindings.clear()
        self._by_port.clear()

    def adopt(self, entry: dict[str, Any]) -> None:
        """Take a flow over, with its port where that is one of this worker's."""
        context = self._context
        key = bytes.fromhex(entry["key"])
        target = context.destination(key[16:32])
        if target is None or key in self._flows:
            return  # its prefix is no more, or the client has gone on with us already
        place = key[:16] + key[32:34] + target.way.place
        binding = self._bindings.get(place)
        if binding is None:
            port = entry["port"]
            if port not in self._ports or port in self._by_port:
                port = self._draw_port()
            try:
                leave_by = self._exits.exit(target.way, key[:16])
            except OSError:
                return  # nor is its way out
            if not port:
                return
            binding = self._bind(place, port, leave_by)
        session = context.open("udp", key, target.origin, OPEN, entry["started"])
        session.inherit(entry)
        flow = Flow(session, binding, key, target.packed, target.way, entry["last"])
        if entry.get("waits") is not None:
            flow.unnamed = QuicName(entry["waits"])  # Initials that were heard before are sent again
        self._enter(flow)
        self._refresh(flow)

    # -- the end -------------------------------------------------------------------------------

    def idle(self, flow: Flow, second: int) -> int:
        """Whether a flow is over by ``second``: 0, or when to ask again."""
        if self._flows.get(flow.key) is not flow:
            return 0  # another worker's by now
        left = int(flow.last) + self._lifetime - second
        if left > 0:
            return second + left
        self._end(flow, "idle")
        return 0

    def kill(self, session: object, reason: str) -> bool:
        """End a session's flow, where it is one of these; the client's next datagram begins another."""
        for flow in self._flows.values():
            if flow.session is session:
                self._end(flow, reason)
                return True
        return False

    def _end(self, flow: Flow, reason: str) -> None:
        del self._flows[flow.key]
        self._context.ended(flow.session, reason)
        binding = flow.binding
        if binding.leave(flow):
            self._bindings.pop(binding.place, None)
            self._by_port.pop(binding.port, None)


def shown(failure: Failure) -> Failure:
    """A datagram has no RST: what TCP would reset is "prohibited" here."""
    return failure if failure is Failure.NON_GLOBAL else Failure.PROHIBITED
