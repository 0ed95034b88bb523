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
from appliance.proxy.context import Context, Destination
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
    """A session of a binding: its record, and the packed endpoints as they stand in packets."""

    __slots__ = ("address", "last", "packed", "server", "session", "target")

    def __init__(self, session: Session, server: bytes, port: int, target: Destination, last: float) -> None:
        self.session = session
        self.server = server
        self.target = target
        self.address = (target.origin, port)
        self.last = last
        self.packed = server + port.to_bytes(2, "big")


class Binding:
    """One client endpoint and its socket."""

    __slots__ = ("client", "fd", "flows", "kind", "origins", "owner", "port", "sock", "ttl")

    def __init__(self, owner: Datagrams, kind: str, key: bytes, sock: socket | None = None) -> None:
        """``sock``: one taken over, set up already; otherwise OSError where there is none to be had."""
        self.owner = owner
        self.kind = kind
        self.client = key[:16]
        self.port = key[16:18]
        self.ttl = DEFAULT_TTL
        self.flows: dict[bytes, Flow] = {}
        self.origins: dict[tuple[str, int], Flow] = {}
        self.sock = self._open() if sock is None else sock
        self.fd = self.sock.fileno()

    def _open(self) -> socket:
        protocol = IPPROTO_UDP if self.kind == "udp" else IPPROTO_ICMP
        sock = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol)
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
        flow, binding = self._flow("udp", packet, packet[40:42], packet[42:44])
        if flow is not None and binding is not None:
            self._send(binding, flow, packet, packet[48 : 40 + length])

    def on_icmpv6(self, packet: bytes) -> None:
        """An ICMPv6 packet from the LAN: an echo request, or an error about an answer of ours."""
        if len(packet) < 48 or not wire.checksum_holds(packet):
            self._context.counters.malformed += 1
            return
        if packet[40] == wire.PACKET_TOO_BIG:
            self._on_too_big(packet)
        if packet[40] != wire.ECHO_REQUEST_V6:
            return
        flow, binding = self._flow("icmp", packet, packet[44:46], b"\0\0")
        if flow is not None and binding is not None:
            # The kernel puts the socket's own identifier and the checksum in.
            echo = bytes((wire.ECHO_REQUEST_V4, 0, 0, 0, 0, 0)) + packet[46:]
            self._send(binding, flow, packet, echo)

    def _on_too_big(self, packet: bytes) -> None:
        """Believed only where it quotes an answer that a living session may have sent."""
        quoted = packet[48:]
        if len(quoted) < 48:
            return
        protocol, client, server = quoted[6], quoted[24:40], quoted[8:24]
        if protocol == wire.FRAGMENT:
            return  # already cut to the least MTU
        if protocol == wire.UDP:
            binding, port = self._bindings.get(client + quoted[42:44] + b"u"), quoted[40:42]
        else:
            binding, port = self._bindings.get(client + quoted[44:46] + b"i"), b"\0\0"
        if binding is not None and server + port in binding.flows:
            self._paths.told(client, int.from_bytes(packet[44:48], "big"), self._context.now)

    def _flow(
        self, kind: str, packet: bytes, port: bytes, server_port: bytes
    ) -> tuple[Flow | None, Binding | None]:
        key = packet[8:24] + port + (b"u" if kind == "udp" else b"i")
        binding = self._bindings.get(key)
        if binding is not None:
            flow = binding.flows.get(packet[24:40] + server_port)
            if flow is not None:
                return flow, binding
        context = self._context
        target = context.destination(packet[24:40])
        if target is None:
            context.counters.malformed += 1
            return None, None
        failure = target.failure or context.admit(packet[8:24])
        published = (kind, int.from_bytes(server_port, "big")) in context.published
        if failure is None and not published and context.is_own(target.origin):
            failure = Failure.DENIED
        if failure is None and binding is None:
            try:
                binding = Binding(self, kind, key)
            except OSError as error:
                failure = failure_of(error.errno or 0)
            else:
                self._bindings[key] = binding
                context.watch(binding.fd, binding, EPOLLIN)
        if failure is not None or binding is None:
            self._refuse(kind, packet, target, failure or Failure.RESOURCES)
            return None, None
        return self._new_flow(key, binding, packet, server_port, target), binding

    def _new_flow(
        self, key: bytes, binding: Binding, packet: bytes, server_port: bytes, target: Destination
    ) -> Flow:
        context = self._context
        session = context.open(binding.kind, packet[8:40] + binding.port + server_port, target.origin, OPEN)
        flow = Flow(session, packet[24:40], int.from_bytes(server_port, "big"), target, context.now)
        context.counters.opened += 1
        self._enter(key, binding, flow)
        return flow

    def _lifetime(self, kind: str) -> int:
        timers = self._context.config.proxy.timers
        return timers.udp if kind == "udp" else timers.icmp

    def _enter(self, key: bytes, binding: Binding, flow: Flow) -> None:
        """Into the binding's tables, with the timer that ends it."""
        binding.flows[flow.packed] = flow
        binding.origins[flow.address] = flow

        def idle(second: int) -> int:
            if binding.flows.get(flow.packed) is not flow:
                return 0  # another worker's by now
            left = int(flow.last) + self._lifetime(binding.kind) - second
            if left > 0:
                return second + left
            self._end(key, binding, flow, "idle")
            return 0

        self._context.timers.add(int(flow.last) + self._lifetime(binding.kind), idle)

    def _refuse(self, kind: str, packet: bytes, target: Destination, failure: Failure) -> None:
        context = self._context
        port = int.from_bytes(packet[42:44], "big") if kind == "udp" else 0
        context.refused(kind, packet[8:24], target.origin, port, failure)
        # A datagram has no RST: what TCP would reset is "prohibited" here.
        shown = failure if failure is Failure.NON_GLOBAL else Failure.PROHIBITED
        context.answer_error(shown, packet)

    def _send(self, binding: Binding, flow: Flow, packet: bytes, payload: bytes) -> None:
        context = self._context
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
        for _ in range(MAX_DATAGRAMS):
            try:
                data, address = receive(MAX_DATAGRAM)
            except BlockingIOError:
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
                answer = wire.udp(flow.server, binding.client, flow.packed[16:18] + binding.port, data)
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
                prefix = flow.target.prefix
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
            original = wire.udp(binding.client, flow.server, binding.port + flow.packed[16:18], data)
        else:
            word = int.from_bytes(binding.port + data[6:8], "big")
            original = wire.icmpv6(binding.client, flow.server, wire.ECHO_REQUEST_V6, 0, word, data[8:])
        context.write(wire.icmpv6_error(source, mapped[0], mapped[1], original, mapped[2]))

    # -- from one worker to the next -------------------------------------------------------------

    def hand_over(self) -> Iterator[tuple[dict[str, Any], socket | None]]:
        """Every flow, as what ``adopt`` of another worker takes; a binding's socket goes with its first."""
        context = self._context
        for key, binding in self._bindings.items():
            sock: socket | None = binding.sock
            for flow in binding.flows.values():
                session = flow.session
                yield (
                    {
                        "kind": binding.kind,
                        "key": key.hex(),
                        "ttl": binding.ttl,
                        "flow": flow.packed.hex(),
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

    def adopt(self, entry: dict[str, Any], sock: socket | None) -> None:
        """Take a flow over; the first of a binding brings its socket."""
        context = self._context
        key, packed = bytes.fromhex(entry["key"]), bytes.fromhex(entry["flow"])
        target = context.destination(packed[:16])
        binding = self._bindings.get(key)
        if target is None or (binding is None and sock is None):
            return  # its prefix is no more
        if binding is None:
            binding = Binding(self, entry["kind"], key, sock)
            binding.ttl = entry["ttl"]
            self._bindings[key] = binding
            context.watch(binding.fd, binding, EPOLLIN)
        endpoints = key[:16] + packed[:16] + binding.port + packed[16:18]
        session = context.open(binding.kind, endpoints, target.origin, OPEN, entry["started"])
        session.to_wan, session.to_lan = entry["to_wan"], entry["to_lan"]
        port = int.from_bytes(packed[16:18], "big")
        self._enter(key, binding, Flow(session, packed[:16], port, target, entry["last"]))

    # -- the end -------------------------------------------------------------------------------

    def _end(self, key: bytes, binding: Binding, flow: Flow, reason: str) -> None:
        context = self._context
        binding.flows.pop(flow.packed, None)
        if binding.origins.get(flow.address) is flow:
            del binding.origins[flow.address]
        context.ended(flow.session, reason)
        if not binding.flows:
            self._bindings.pop(key, None)
            context.bury(binding.fd, binding.sock)
