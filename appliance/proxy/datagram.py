"""UDP and ping: the client's leg is packets of the TUN, the origin's leg one socket for each binding.

A *binding* (RFC 6146 section 3.1) is a client's endpoint, address and port (for ping: address and
identifier). It owns one unconnected IPv4 socket, so every origin sees the same source port:
endpoint-independent mapping. The binding's *sessions*, one for each origin, say who may answer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_ICMP,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_UDP,
    MSG_ERRQUEUE,
    SO_ERROR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOL_SOCKET,
    inet_aton,
    inet_ntop,
    socket,
)
from typing import Any

from appliance.addressing import is_global_ipv4
from appliance.errors import Failure, failure_of
from appliance.protocol import packet as wire
from appliance.proxy.context import Context, Destination, Way
from appliance.proxy.loop import Handler
from appliance.proxy.relay import EPOLLERR, EPOLLIN
from appliance.session.record import OPEN, Session

# Answers taken from one socket before the others have their turn.
MAX_DATAGRAMS = 32
MAX_DATAGRAM = 65_536
# What is known of the way to a client is asked anew after so long; how many clients are remembered.
PATH_MTU_LIFETIME = 10.0
# RFC 8201 section 4: what a packet-too-big said holds for ten minutes.
TOLD_MTU_LIFETIME = 600.0
MAX_PATHS = 4_096
# Above this a hop limit is a host's default and says nothing; below it somebody counts hops.
TRACEROUTE_HOPS = 32
DEFAULT_TTL = 64

_IP_RECVERR = 11
_IP_TTL = 2
_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_DONT = 0
_IPV6_MTU = 24
_SO_EE_ORIGIN_ICMP = 2
# struct sock_extended_err (linux/errqueue.h), then the offender's sockaddr_in.
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
_ERROR_ROOM = 512


class Flow:
    """A session of a binding.

    ``key``: client, server and, of UDP, client's port and server's port, of ping, the identifier: as
    they stand in the client's packets.
    """

    __slots__ = ("address", "binding", "key", "last", "server", "session", "target")

    def __init__(
        self, session: Session, binding: Binding, key: bytes, port: int, target: Destination, last: float
    ) -> None:
        self.session = session
        self.binding = binding
        self.key = key
        self.server = key[16:32]
        self.target = target
        self.address = (target.origin, port)
        self.last = last


def _binding_key(kind: str, key: bytes, way: Way) -> bytes:
    """A client's endpoint, the kind, and the prefix: what one origin's side socket serves."""
    return key[:16] + key[32:34] + kind.encode() + way.prefix.network.network_address.packed


class Binding(Handler):
    """One client endpoint and its socket."""

    __slots__ = ("client", "fd", "flows", "kind", "origins", "owner", "place", "port", "sock", "ttl", "turn")

    def __init__(
        self, owner: Datagrams, kind: str, place: bytes, way: Way, sock: socket | None = None
    ) -> None:
        """``sock``: one taken over, set up already; otherwise OSError where there is none to be had."""
        self.owner = owner
        self.kind = kind
        self.place = place
        self.client = place[:16]
        self.port = place[16:18]
        self.ttl = DEFAULT_TTL
        self.turn = 1  # answers to take at the next event
        self.flows: set[Flow] = set()
        self.origins: dict[tuple[str, int], Flow] = {}
        self.sock = self._open(way) if sock is None else sock
        self.fd = self.sock.fileno()

    def _open(self, way: Way) -> socket:
        protocol = IPPROTO_UDP if self.kind == "udp" else IPPROTO_ICMP
        sock = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol)
        try:
            way.bind(sock, self.client)
        except OSError:
            sock.close()
            raise
        sock.setsockopt(IPPROTO_IP, _IP_RECVERR, 1)
        # An IPv6 source never lets routers fragment; on the IPv4 side a datagram of a client that
        # knows nothing of that side's MTU is fragmented rather than lost.
        sock.setsockopt(IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)
        return sock

    def on_event(self, events: int) -> None:
        """Answers, or errors about what was sent."""
        if events & EPOLLERR:
            self.owner.errors(self)
        if events & EPOLLIN:
            self.owner.answers(self)


class PathMtu:
    """The greatest packet that reaches a client whole: the LAN's MTU, or what a router there said."""

    __slots__ = ("_known", "_probe")

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, float]] = {}  # client: MTU, until when
        self._probe = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC)

    def of(self, client: bytes, now: float) -> int:
        """Octets of a whole IPv6 packet."""
        known = self._known.get(client)
        if known is not None and known[1] > now:
            return known[0]
        try:
            self._probe.connect((inet_ntop(AF_INET6, client), 9))
            mtu = self._probe.getsockopt(IPPROTO_IPV6, _IPV6_MTU)
        except OSError:
            mtu = wire.MIN_MTU  # no route just now: the least is always right
        self._keep(client, mtu, now + PATH_MTU_LIFETIME)
        return mtu

    def told(self, client: bytes, mtu: int, now: float) -> None:
        """A packet-too-big about something sent to ``client``; it may only make the MTU smaller."""
        mtu = max(mtu, wire.MIN_MTU)
        if mtu < self.of(client, now):
            self._keep(client, mtu, now + TOLD_MTU_LIFETIME)

    def _keep(self, client: bytes, mtu: int, until: float) -> None:
        if len(self._known) >= MAX_PATHS:
            for old in list(self._known)[: MAX_PATHS // 2]:
                del self._known[old]
        self._known[client] = (mtu, until)


class Datagrams:
    """The UDP and ping part of a worker."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._flows: dict[bytes, Flow] = {}
        self._bindings: dict[bytes, Binding] = {}
        self._identification = 0
        self._paths = PathMtu()

    # -- from the client -----------------------------------------------------------------------

    def on_udp(self, packet: bytes) -> None:
        """A UDP datagram of a client."""
        length = int.from_bytes(packet[44:46], "big")
        if len(packet) < 48 or length < 8 or length > len(packet) - 40 or not wire.checksum_holds(packet):
            self._context.counters.malformed += 1
            return
        key = packet[8:44]
        flow = self._flows.get(key) or self._open("udp", packet, key)
        if flow is not None:
            self._send(flow, packet, packet[48 : 40 + length])

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
        flow = self._flows.get(key) or self._open("icmp", packet, key)
        if flow is not None:
            # The kernel puts the socket's own identifier and the checksum in.
            echo = bytes((wire.ECHO_REQUEST_V4, 0, 0, 0, 0, 0)) + packet[46:]
            self._send(flow, packet, echo)

    def _on_too_big(self, packet: bytes) -> None:
        """Believed only where it quotes an answer that a living session may have sent."""
        quoted = packet[48:]
        if len(quoted) < 48:
            return
        protocol, client, server = quoted[6], quoted[24:40], quoted[8:24]
        if protocol == wire.FRAGMENT:
            return  # already cut to the least MTU
        # The quoted answer's ends are ours the other way round.
        if protocol == wire.UDP:
            key = client + server + quoted[42:44] + quoted[40:42]
        else:
            key = client + server + quoted[44:46]
        if key in self._flows:
            self._paths.told(client, int.from_bytes(packet[44:48], "big"), self._context.now)

    def _open(self, kind: str, packet: bytes, key: bytes) -> Flow | None:
        """A new flow for a client's packet, within its binding; refused where it may not be."""
        context = self._context
        target = context.destination(packet[24:40])
        if target is None:
            context.counters.malformed += 1
            return None
        port = int.from_bytes(key[34:36], "big")  # 0 for ping
        failure = target.failure or context.admit(packet[8:24])
        if failure is None and (kind, port) not in context.published and context.is_own(target.origin):
            failure = Failure.DENIED
        place = _binding_key(kind, key, target.way)
        binding = self._bindings.get(place)
        if failure is None and binding is None:
            try:
                binding = Binding(self, kind, place, target.way)
            except OSError as error:
                failure = failure_of(error.errno or 0)
            else:
                self._bindings[place] = binding
                context.watch(binding.fd, binding, EPOLLIN)
        if failure is not None or binding is None:
            self._refuse(kind, packet, target, failure or Failure.RESOURCES)
            return None
        session = context.open(kind, key[:36].ljust(36, b"\0"), target.origin, OPEN)
        flow = Flow(session, binding, key, port, target, context.now)
        context.counters.opened += 1
        self._enter(flow)
        return flow

    def _lifetime(self, kind: str) -> int:
        timers = self._context.config.proxy.timers
        return timers.udp if kind == "udp" else timers.icmp

    def _enter(self, flow: Flow) -> None:
        """Into the tables, with the timer that ends it."""
        binding = flow.binding
        self._flows[flow.key] = flow
        binding.flows.add(flow)
        binding.origins[flow.address] = flow

        def idle(second: int) -> int:
            if self._flows.get(flow.key) is not flow:
                return 0  # another worker's by now
            left = int(flow.last) + self._lifetime(binding.kind) - second
            if left > 0:
                return second + left
            self._end(flow, "idle")
            return 0

        self._context.timers.add(int(flow.last) + self._lifetime(binding.kind), idle)

    def _refuse(self, kind: str, packet: bytes, target: Destination, failure: Failure) -> None:
        context = self._context
        port = int.from_bytes(packet[42:44], "big") if kind == "udp" else 0
        context.refused(kind, packet[8:24], target.origin, port, failure)
        # A datagram has no RST: what TCP would reset is "prohibited" here.
        shown = failure if failure is Failure.NON_GLOBAL else Failure.PROHIBITED
        context.answer_error(shown, packet)

    def _send(self, flow: Flow, packet: bytes, payload: bytes) -> None:
        context, binding = self._context, flow.binding
        hops = packet[7]
        ttl = hops if hops < TRACEROUTE_HOPS else DEFAULT_TTL
        flow.last = context.now
        try:
            if ttl != binding.ttl:
                binding.sock.setsockopt(IPPROTO_IP, _IP_TTL, ttl)
                binding.ttl = ttl
            try:
                binding.sock.sendto(payload, flow.address)
            except ConnectionRefusedError:
                # An earlier datagram's error; its story is in the error queue. This one is unsent.
                binding.sock.sendto(payload, flow.address)
        except BlockingIOError:
            if binding.sock.getsockname()[1] == 0:  # not a full buffer: there was no port to send from
                self._end(flow, Failure.PORTS.value)
                self._refuse(binding.kind, packet, flow.target, Failure.PORTS)
            return
        except OSError as error:
            if binding.kind == "udp" and error.errno is not None:
                context.answer_error(failure_of(error.errno), packet)
            self.errors(binding)
            return
        flow.session.to_wan += len(payload)

    # -- from the origin -----------------------------------------------------------------------

    def answers(self, binding: Binding) -> None:
        """Datagrams on a binding's socket; those of strangers are dropped."""
        context = self._context
        receive = binding.sock.recvfrom
        udp = binding.kind == "udp"
        turn = binding.turn
        # The socket is reported again while there is more. To look for the end of the queue each time
        # would be a system call in vain for everyone with one datagram at a time.
        binding.turn = min(2 * turn, MAX_DATAGRAMS)
        for number in range(turn):
            try:
                data, address = receive(MAX_DATAGRAM)
            except BlockingIOError:
                binding.turn = max(number, 1)
                return
            except OSError:
                self.errors(binding)
                continue
            flow = binding.origins.get(address)
            if flow is None:
                continue
            flow.last = context.now
            flow.session.to_lan += len(data)
            if udp:
                answer = wire.udp(flow.server, binding.client, flow.key[34:36] + binding.port, data)
            elif len(data) >= 8 and data[0] == wire.ECHO_REPLY_V4:
                word = int.from_bytes(binding.port + data[6:8], "big")
                answer = wire.icmpv6(flow.server, binding.client, wire.ECHO_REPLY_V6, 0, word, data[8:])
            else:
                continue
            if len(answer) <= wire.MIN_MTU:
                context.write(answer)
                continue
            self._identification = (self._identification + 1) & 0xFFFFFFFF
            mtu = self._paths.of(binding.client, context.now)
            for piece in wire.fragments(answer, self._identification, mtu):
                context.write(piece)

    def errors(self, binding: Binding) -> None:
        """What the IPv4 side says of our datagrams: back to the client as ICMPv6."""
        for _ in range(MAX_DATAGRAMS):
            try:
                data, control, _flags, address = binding.sock.recvmsg(
                    wire.MAX_QUOTE, _ERROR_ROOM, MSG_ERRQUEUE
                )
            except OSError:
                # An error that left no message would raise EPOLLERR for ever: read it away.
                binding.sock.getsockopt(SOL_SOCKET, SO_ERROR)
                return
            flow = binding.origins.get(address)
            if flow is None:
                continue
            for level, kind, value in control:
                if level == IPPROTO_IP and kind == _IP_RECVERR and len(value) >= _EXTENDED_ERROR.size:
                    self._pass_on(binding, flow, data, value)

    def _pass_on(self, binding: Binding, flow: Flow, data: bytes, value: bytes) -> None:
        context = self._context
        number, origin, kind, code, _pad, info, _data = _EXTENDED_ERROR.unpack_from(value)
        source = flow.server
        if origin == _SO_EE_ORIGIN_ICMP:
            mapped = wire.icmp_error_to_v6(kind, code, info)
            offender = value[_EXTENDED_ERROR.size + 4 : _EXTENDED_ERROR.size + 8]
            if len(offender) == 4 and offender != inet_aton(flow.target.origin):
                prefix = flow.target.way.prefix
                if not prefix.well_known or is_global_ipv4(IPv4Address(offender)):
                    source = prefix.embed_packed(offender)
                elif kind == 11:
                    return  # a hop without an address that could be shown: traceroute prints a star
        else:
            failure = failure_of(number)
            mapped = (1, 0, 0) if failure is Failure.NO_ROUTE else (1, 3, 0)
        if mapped is None or not context.may_send_error():
            return
        if binding.kind == "udp":
            original = wire.udp(binding.client, flow.server, flow.key[32:36], data)
        else:
            word = int.from_bytes(binding.port + data[6:8], "big")
            original = wire.icmpv6(binding.client, flow.server, wire.ECHO_REQUEST_V6, 0, word, data[8:])
        context.write(wire.icmpv6_error(source, mapped[0], mapped[1], original, mapped[2]))

    # -- from one worker to the next -------------------------------------------------------------

    def hand_over(self) -> Iterator[tuple[dict[str, Any], socket | None]]:
        """Every flow, as what ``adopt`` of another worker takes; a binding's socket goes with its first."""
        context = self._context
        for binding in self._bindings.values():
            sock: socket | None = binding.sock
            for flow in binding.flows:
                session = flow.session
                yield (
                    {
                        "kind": binding.kind,
                        "key": flow.key.hex(),
                        "ttl": binding.ttl,
                        "last": flow.last,
                        "started": session.started,
                        "to_wan": session.to_wan,
                        "to_lan": session.to_lan,
                    },
                    sock,
                )
                sock = None
                context.drop(session)
            binding.flows.clear()
            context.ignore(binding.fd)
            context.bury(binding.fd, binding.sock)
        self._bindings.clear()
        self._flows.clear()

    def adopt(self, entry: dict[str, Any], sock: socket | None) -> None:
        """Take a flow over; the first of a binding brings its socket."""
        context = self._context
        kind, key = entry["kind"], bytes.fromhex(entry["key"])
        target = context.destination(key[16:32])
        if target is None:
            return  # its prefix is no more
        place = _binding_key(kind, key, target.way)
        binding = self._bindings.get(place)
        if binding is None:
            if sock is None:
                return  # nor is its binding's
            binding = Binding(self, kind, place, target.way, sock)
            binding.ttl = entry["ttl"]
            self._bindings[place] = binding
            context.watch(binding.fd, binding, EPOLLIN)
        session = context.open(kind, key[:36].ljust(36, b"\0"), target.origin, OPEN, entry["started"])
        session.to_wan, session.to_lan = entry["to_wan"], entry["to_lan"]
        port = int.from_bytes(key[34:36], "big")
        self._enter(Flow(session, binding, key, port, target, entry["last"]))

    # -- the end -------------------------------------------------------------------------------

    def _end(self, flow: Flow, reason: str) -> None:
        context, binding = self._context, flow.binding
        del self._flows[flow.key]
        binding.flows.discard(flow)
        if binding.origins.get(flow.address) is flow:
            del binding.origins[flow.address]
        context.ended(flow.session, reason)
        if not binding.flows:
            self._bindings.pop(binding.place, None)
            context.bury(binding.fd, binding.sock)
