"""Ping: echo requests come through the TUN, the origin's leg is one ICMP socket for each binding.

A binding is a client's address and identifier (RFC 6146 section 3.1), its flows are one for each origin.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import ENETUNREACH
from functools import partial
from socket import (
    AF_INET,
    IPPROTO_ICMP,
    IPPROTO_IP,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    inet_aton,
    socket,
)
from typing import Any

from appliance.config.rules import DEFAULT_RULE
from appliance.errors import Failure, failure_of
from appliance.protocol import packet as wire
from appliance.proxy.context import Context, Destination, Way
from appliance.proxy.datagram import (
    DEFAULT_TTL,
    TRACEROUTE_HOPS,
    Datagrams,
    shown,
)
from appliance.proxy.loop import Handler
from appliance.proxy.origin_errors import read_errors
from appliance.proxy.relay import EPOLLERR, EPOLLIN
from appliance.session.record import OPEN, Session

# Answers taken from one socket before the others have their turn.
MAX_ANSWERS = 32
MAX_ANSWER = 65_536

_IP_TTL = 2
_IP_RECVERR = 11
_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_DONT = 0


class Flow:
    """A session of a binding. ``key``: client, server, identifier, as in the client's packets."""

    __slots__ = ("address", "binding", "key", "last", "session", "way")

    def __init__(
        self, session: Session, binding: Binding, key: bytes, target: Destination, last: float
    ) -> None:
        self.session = session
        self.binding = binding
        self.key = key
        self.address = (target.origin, 0)
        self.way = target.way
        self.last = last


class Binding(Handler):
    """One client's identifier and its socket."""

    __slots__ = ("count", "flows", "owner", "place", "sock", "ttl")

    def __init__(self, owner: Pings, place: bytes, sock: socket) -> None:
        self.owner = owner
        self.place = place
        self.sock = sock
        self.ttl = DEFAULT_TTL
        self.count = 0  # of flows
        # By origin. Of two servers that stand for the same origin the newest has its answers.
        self.flows: dict[bytes, Flow] = {}

    def on_event(self, events: int) -> None:
        """Answers, or errors about what was sent."""
        if events & EPOLLERR:
            self.owner.errors(self)
        if events & EPOLLIN:
            self.owner.answers(self)

    def kill(self, session: object, reason: str) -> bool:
        """End the flow, where it is one of any binding; the client's next request begins another."""
        return self.owner.kill(session, reason)


def _place(key: bytes, way: Way) -> bytes:
    return key[:16] + key[32:34] + way.prefix.network.network_address.packed


class Pings:
    """The ping part of a worker; ``datagrams`` knows the ways to clients."""

    def __init__(self, context: Context, datagrams: Datagrams) -> None:
        self._context = context
        self._datagrams = datagrams
        self._flows: dict[bytes, Flow] = {}
        self._bindings: dict[bytes, Binding] = {}

    # -- from the client -----------------------------------------------------------------------

    def on_icmpv6(self, packet: bytes) -> None:
        """An ICMPv6 packet from the LAN: an echo request, or an error about an answer of ours."""
        if len(packet) < 48 or not wire.checksum_holds(packet):
            self._context.counters.malformed += 1
            return
        if packet[40] == wire.PACKET_TOO_BIG:
            self._on_too_big(packet)
        if packet[40] != wire.ECHO_REQUEST_V6:
            return
        key = packet[8:40] + packet[44:46]
        flow = self._flows.get(key) or self._open(packet, key)
        if flow is not None:
            self._send(flow, packet)

    def _on_too_big(self, packet: bytes) -> None:
        """Believed only where it quotes an answer that a living session may have sent."""
        quoted = packet[48:]
        if len(quoted) < 48:
            return
        protocol, client, server = quoted[6], quoted[24:40], quoted[8:24]
        if protocol == wire.FRAGMENT:
            return  # already cut to the least MTU
        mtu = int.from_bytes(packet[44:48], "big")
        # The quoted answer's ends are ours the other way round.
        if protocol == wire.UDP:
            self._datagrams.on_too_big(client + server + quoted[42:44] + quoted[40:42], mtu)
        elif client + server + quoted[44:46] in self._flows:
            self._datagrams.paths.told(client, mtu, self._context.now)

    def _open(self, packet: bytes, key: bytes) -> Flow | None:
        """A new flow, within its binding; refused where it may not be."""
        context = self._context
        target = context.destination(packet[24:40])
        if target is None:
            context.counters.malformed += 1
            return None
        if context.arbiter.judges_devices and context.put_off(packet[8:24], partial(self.on_icmpv6, packet)):
            return None
        failure = target.failure or context.admit(packet[8:24])
        if failure is None and ("icmp", 0) not in context.published and context.is_own(target.origin):
            failure = Failure.DENIED
        rule = DEFAULT_RULE
        name = context.arbiter.name_of(packet[8:24], packet[24:40], target.packed)
        if failure is None and context.arbiter.asks:
            verdict = context.arbiter.packet("icmp", packet[8:24], target.packed, 0, name)
            rule = verdict.rule
            if not verdict.allow:
                failure = Failure.DENIED
        place = _place(key, target.way)
        binding = self._bindings.get(place)
        if failure is None and binding is None:
            try:
                binding = self._bind(place, self._socket(target.way, packet[8:24]))
            except OSError as error:
                failure = failure_of(error.errno or 0)
        if failure is not None or binding is None:
            failure = failure or Failure.RESOURCES
            denied_by = rule if failure is Failure.DENIED else ""
            context.refused("icmp", packet[8:24], target.origin, 0, failure, denied_by, name)
            context.answer_error(shown(failure), packet)
            return None
        session = context.open("icmp", key + b"\0\0", target.origin, OPEN)
        session.rule = rule
        if name:
            session.name, session.named_by = name, "dns"
        context.counters.opened += 1
        if context.quotas is not None:
            context.quotas.opened(session)
        return self._enter(Flow(session, binding, key, target, context.now))

    def _socket(self, way: Way, client: bytes) -> socket:
        sock = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMP)
        try:
            way.bind(sock, client)
            sock.setsockopt(IPPROTO_IP, _IP_RECVERR, 1)
            # An IPv6 source never lets routers fragment; on the IPv4 side a large echo of a client that
            # knows nothing of that side's MTU is fragmented rather than lost.
            sock.setsockopt(IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)
        except OSError:
            sock.close()
            raise
        return sock

    def _bind(self, place: bytes, sock: socket) -> Binding:
        binding = Binding(self, place, sock)
        self._context.watch(sock.fileno(), binding, EPOLLIN)
        self._bindings[place] = binding
        return binding

    def _enter(self, flow: Flow) -> Flow:
        context, binding = self._context, flow.binding
        self._flows[flow.key] = flow
        binding.flows[inet_aton(flow.address[0])] = flow
        binding.count += 1

        def idle(second: int) -> int:
            if self._flows.get(flow.key) is not flow:
                return 0  # another worker's by now
            left = int(flow.last) + context.config.proxy.timers.icmp - second
            if left > 0:
                return second + left
            self._end(flow, "idle")
            return 0

        context.timers.add(int(flow.last) + context.config.proxy.timers.icmp, idle)
        return flow

    def _send(self, flow: Flow, packet: bytes) -> None:
        binding = flow.binding
        ttl = packet[7] if packet[7] < TRACEROUTE_HOPS else DEFAULT_TTL
        flow.last = self._context.now
        # The kernel puts the socket's own identifier and the checksum in.
        echo = bytes((wire.ECHO_REQUEST_V4, 0, 0, 0, 0, 0)) + packet[46:]
        if flow.session.rate and not self._context.within_rate(flow.session, True, len(echo)):
            return
        try:
            if ttl != binding.ttl:
                binding.sock.setsockopt(IPPROTO_IP, _IP_TTL, ttl)
                binding.ttl = ttl
            try:
                binding.sock.sendto(echo, flow.address)
            except ConnectionRefusedError:
                # An earlier echo's error; its story is in the error queue. This one is unsent.
                binding.sock.sendto(echo, flow.address)
        except BlockingIOError:
            if binding.sock.getsockname()[1] == 0:  # not a full buffer: there was no identifier to be had
                self._end(flow, Failure.PORTS.value)
                self._context.refused("icmp", flow.key[:16], flow.address[0], 0, Failure.PORTS)
                self._context.answer_error(shown(Failure.PORTS), packet)
            return
        except OSError as error:
            # Where no route leads there, nothing is in the queue; else it is an earlier echo's error.
            if not self.errors(binding) and error.errno == ENETUNREACH:
                self._context.answer_error(shown(Failure.NO_ROUTE), packet)
            return
        flow.session.to_wan += len(echo)

    # -- from the origin -----------------------------------------------------------------------

    def answers(self, binding: Binding) -> None:
        """Echo replies on a binding's socket; those of strangers are dropped."""
        context = self._context
        for _ in range(MAX_ANSWERS):
            try:
                data, peer = binding.sock.recvfrom(MAX_ANSWER)
            except BlockingIOError:
                return
            except OSError:
                self.errors(binding)
                continue
            flow = binding.flows.get(inet_aton(peer[0]))
            if flow is None or len(data) < 8 or data[0] != wire.ECHO_REPLY_V4:
                continue
            flow.last = context.now
            if flow.session.rate and not context.within_rate(flow.session, False, len(data)):
                continue
            flow.session.to_lan += len(data)
            key = flow.key
            word = int.from_bytes(key[32:34] + data[6:8], "big")
            answer = wire.icmpv6(key[16:32], key[:16], wire.ECHO_REPLY_V6, 0, word, data[8:])
            self._datagrams.send_to_client(answer)

    def errors(self, binding: Binding) -> bool:
        """What the IPv4 side says of our echoes: back to the client as ICMPv6. Whether it said anything."""
        context, found = self._context, False
        for error in read_errors(binding.sock):
            found = True
            flow = binding.flows.get(error.address[:4])
            if flow is None or error.answer is None:
                continue
            client, server = flow.key[:16], flow.key[16:32]
            source = error.source(flow.way.prefix, server)
            if source is None or not context.may_send_error():
                continue
            word = int.from_bytes(flow.key[32:34] + error.data[6:8], "big")
            original = wire.icmpv6(client, server, wire.ECHO_REQUEST_V6, 0, word, error.data[8:])
            kind, code, mtu = error.answer
            context.write(wire.icmpv6_error(source, kind, code, original, mtu))
        return found

    # -- from one worker to the next -------------------------------------------------------------

    def hand_over(self) -> Iterator[tuple[dict[str, Any], int | None]]:
        """Every flow, as what ``adopt`` of another worker takes; a binding's socket goes with its first."""
        context = self._context
        handed: set[bytes] = set()
        for flow in self._flows.values():
            binding, session = flow.binding, flow.session
            first = binding.place not in handed
            handed.add(binding.place)
            yield (
                {
                    "kind": "icmp",
                    "key": flow.key.hex(),
                    "ttl": binding.ttl,
                    "last": flow.last,
                    **session.heirloom(),
                },
                binding.sock.fileno() if first else None,
            )
            context.drop(session)
        for binding in self._bindings.values():
            fd = binding.sock.fileno()
            context.ignore(fd)
            context.bury(fd, binding.sock)
        self._bindings.clear()
        self._flows.clear()

    def adopt(self, entry: dict[str, Any], sock: socket | None) -> None:
        """Take a flow over; the first of a binding brings its socket."""
        context = self._context
        key = bytes.fromhex(entry["key"])
        target = context.destination(key[16:32])
        if target is None or key in self._flows:
            if sock is not None:
                sock.close()
            return  # its prefix is no more, or the client has gone on with us already
        place = _place(key, target.way)
        binding = self._bindings.get(place)
        if binding is None:
            if sock is None:
                return  # nor is its binding's
            binding = self._bind(place, sock)
            binding.ttl = entry["ttl"]
        session = context.open("icmp", key + b"\0\0", target.origin, OPEN, entry["started"])
        session.inherit(entry)
        self._enter(Flow(session, binding, key, target, entry["last"]))

    # -- the end -------------------------------------------------------------------------------

    def kill(self, session: object, reason: str) -> bool:
        """End a session's flow; False where there is none."""
        for flow in self._flows.values():
            if flow.session is session:
                self._end(flow, reason)
                return True
        return False

    def _end(self, flow: Flow, reason: str) -> None:
        context, binding = self._context, flow.binding
        del self._flows[flow.key]
        origin = inet_aton(flow.address[0])
        if binding.flows.get(origin) is flow:
            del binding.flows[origin]
        context.ended(flow.session, reason)
        binding.count -= 1
        if not binding.count:
            self._bindings.pop(binding.place, None)
            context.bury(binding.sock.fileno(), binding.sock)
