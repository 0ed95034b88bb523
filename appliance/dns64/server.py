"""The clients' side: UDP and TCP on one port."""

from __future__ import annotations

import socket
from functools import partial
from ipaddress import IPv4Address, IPv6Address

from appliance.dns64.counters import Counters
from appliance.dns64.loop import READ, WRITE, Loop, Timer
from appliance.dns64.quick import Quick
from appliance.dns64.resolver import MAX_QUERY, Resolver
from appliance.protocol import dns

# Whole sites sit behind one box, but few clients use TCP at one time; each costs a descriptor.
MAX_TCP_CLIENTS = 512
# Of one address, so that one client does not shut the others out (RFC 7766 section 6.2.2 asks for two).
MAX_TCP_PER_CLIENT = 64
# Seconds without a whole question or an answer (RFC 7766 section 6.2.3: a few). Longer lets idle
# clients use up the connections.
TCP_IDLE = 10.0
# Questions of one connection that wait for their answer; then we stop reading until some went out.
MAX_PIPELINED = 100
# Octets that a client does not fetch; beyond, the connection is dropped.
MAX_UNSENT = 4 * dns.MAX_MESSAGE
_STREAM = 65_536
_BACKLOG = 256
_DATAGRAM = MAX_QUERY + 1  # of a longer one the rest is cut, and the resolver refuses it
_READS_A_TURN = 64  # so that a burst of questions does not starve the answers
_SOCKET_BUFFER = 4 << 20  # octets
_CONTROL = socket.CMSG_SPACE(20)  # struct in6_pktinfo: the address, then the interface's index
# Addresses of the box that get a socket of their own: a LAN has two or three. One too many costs
# speed only: its questions are answered by way of the wildcard.
MAX_OWN_SOCKETS = 16

Address = tuple[str, int] | tuple[str, int, int, int]
Control = list[tuple[int, int, bytes]]


class _TcpClient:
    """One connection. Answers go out as they come, in any order (RFC 7766 section 7)."""

    def __init__(self, server: Server, connection: socket.socket, address: Address) -> None:
        self._server = server
        self._loop = server.loop
        self._socket = connection
        self.client = address[0]
        self._in = bytearray()
        self._out = bytearray()
        self._waiting = 0
        self._queue: list[bytes] = []
        self._ended = False  # the client has closed its half; its answers still go out
        self._events = READ
        self._closed = False
        self._seen = self._loop.now
        self._idle: Timer = self._loop.after(TCP_IDLE, self._check_idle)
        self._loop.add(connection.fileno(), READ, self._ready)

    def _check_idle(self) -> None:
        left = self._seen + TCP_IDLE - self._loop.now
        if left <= 0:
            self.close()
        else:
            self._idle = self._loop.after(left, self._check_idle)

    def _ready(self, events: int) -> None:
        try:
            if events & WRITE and self._out:
                self._flush()
            if events & ~WRITE:
                data = self._socket.recv(_STREAM)
                if data:
                    self._take(data)
                else:
                    self._ended = True
            self._work()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def _take(self, data: bytes) -> None:
        self._in += data
        whole = dns.take_stream(self._in)
        if whole:
            self._seen = self._loop.now  # not for single octets: they would hold the connection for ever
            self._queue += whole
        if len(self._in) >= 2 and int.from_bytes(self._in[:2], "big") > MAX_QUERY:
            self.close()  # no question is as long; it would only fill our memory

    def _work(self) -> None:
        while self._queue and self._waiting < MAX_PIPELINED and not self._closed:
            packet = self._queue.pop(0)
            if len(packet) < 4 or packet[2] & 0x80:
                self.close()  # no DNS client; nothing could be answered
                return
            self._waiting += 1
            self._server.resolver.handle(packet, self.client, True, self._answer)
        self._settle()

    def _answer(self, packet: bytes) -> None:
        self._waiting -= 1
        if self._closed:
            return
        self._seen = self._loop.now
        self._out += len(packet).to_bytes(2, "big") + packet
        try:
            self._flush()
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if len(self._out) > MAX_UNSENT:
            self._server.counters.over_unsent += 1
            self.close()
            return
        if self._queue and self._waiting == MAX_PIPELINED - 1:
            self._loop.after(0.0, self._work)  # not from here: answers may come at once, and nest
        self._settle()

    def _flush(self) -> None:
        if self._out:
            del self._out[: self._socket.send(self._out)]

    def _settle(self) -> None:
        if self._closed:
            return
        if self._ended and not self._waiting and not self._queue and not self._out:
            self.close()
            return
        full = self._ended or len(self._queue) > MAX_PIPELINED
        events = (0 if full else READ) | (WRITE if self._out else 0)
        if events != self._events:
            self._events = events
            self._loop.change(self._socket.fileno(), events)

    def close(self) -> None:
        """End the connection; answers that come later are dropped."""
        if not self._closed:
            self._closed = True
            self._idle.cancel()
            self._loop.remove(self._socket.fileno())
            self._socket.close()
            self._server.forget(self)


def _udp_socket(address: IPv4Address | IPv6Address, port: int, shared: bool) -> socket.socket:
    """A bound socket; ``shared``: others of ours are bound to single addresses beside the wildcard."""
    made = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        if address.version == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
        made.bind((str(address), port))
    except OSError:
        made.close()
        raise
    return made


class Server:
    """Listens on ``address`` and ``port``; raises OSError where that cannot be had.

    A client drops an answer that comes from another address than it asked, and from the wildcard the
    kernel would pick one by its routes. So the wildcard's socket is told where each question came to
    and answers from there; and the first question to an address gets that one a socket of its own,
    which the kernel prefers from then on and which needs no control data (4 µs an answer instead of 7).
    """

    def __init__(
        self,
        loop: Loop,
        resolver: Resolver,
        address: IPv4Address | IPv6Address,
        port: int,
        counters: Counters,
        quick: Quick | None = None,
    ) -> None:
        self.loop = loop
        self._quick = quick
        self.resolver = resolver
        self.counters = counters
        self.clients: set[_TcpClient] = set()
        self._of_address: dict[str, int] = {}
        self._port = port
        self._own: dict[bytes, socket.socket | None] = {}
        wildcard = address.version == 6 and address.is_unspecified
        self._tcp = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET)
        try:
            self._tcp.setblocking(False)
            if address.version == 6:
                self._tcp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._tcp.bind((str(address), port))
            self._tcp.listen(_BACKLOG)
            self._udp = _udp_socket(address, port, shared=wildcard)
        except OSError:
            self._tcp.close()
            raise
        if wildcard:
            self._udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            loop.add(self._udp.fileno(), READ, self._wildcard_datagrams)
        else:
            self._serve(self._udp)
        loop.add(self._tcp.fileno(), READ, self._accept)

    def _datagrams(self, udp: socket.socket, _events: int) -> None:
        receive, send, quick = udp.recvfrom, udp.sendto, self.resolver.quick
        now = int(self.loop.now)
        for _ in range(_READS_A_TURN):
            try:
                packet, address = receive(_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error to an earlier answer
            known = quick(packet, address[0], now)
            if known is None:
                self.resolver.handle(packet, address[0], False, partial(_send, udp, address))
                continue
            try:
                send(packet[:2] + known, address)
            except OSError:
                pass  # UDP may lose it; the client asks again. Port 0 cannot be answered at all

    def _wildcard_datagrams(self, _events: int) -> None:
        for _ in range(_READS_A_TURN):
            try:
                packet, control, _flags, address = self._udp.recvmsg(_DATAGRAM, _CONTROL)
            except BlockingIOError:
                return
            except OSError:
                continue
            self.resolver.handle(packet, address[0], False, partial(_send_from, self._udp, address, control))
            for _level, _kind, data in control:
                self._open_own(data[:16])

    def _open_own(self, packed: bytes) -> None:
        """Give an address of the box its socket, unless it has one."""
        if packed in self._own or len(packed) != 16 or len(self._own) >= MAX_OWN_SOCKETS:
            return
        address = IPv6Address(packed)
        if address.is_link_local or address.is_multicast:
            return  # the first needs an interface, to the second none may answer
        try:
            udp = self._own[packed] = _udp_socket(address, self._port, shared=True)
        except OSError:
            self._own[packed] = None  # not again; the wildcard serves it
            return
        self._serve(udp)

    def _serve(self, udp: socket.socket) -> None:
        """A socket of one address: the short way is open to it, where there is one."""
        if self._quick is not None and udp.family == socket.AF_INET6:
            self._quick.serve(udp)
        else:
            self.loop.add(udp.fileno(), READ, partial(self._datagrams, udp))

    def _accept(self, _events: int) -> None:
        try:
            connection, address = self._tcp.accept()
        except OSError:
            return
        connection.setblocking(False)
        count = self._of_address.get(address[0], 0)
        if len(self.clients) >= MAX_TCP_CLIENTS or count >= MAX_TCP_PER_CLIENT:
            self.counters.over_connections += 1
            connection.close()
            return
        self._of_address[address[0]] = count + 1
        self.clients.add(_TcpClient(self, connection, address))

    def forget(self, client: _TcpClient) -> None:
        """A connection has ended."""
        self.clients.discard(client)
        self._of_address[client.client] -= 1
        if not self._of_address[client.client]:
            del self._of_address[client.client]

    def close(self) -> None:
        """Free every socket."""
        for client in list(self.clients):
            client.close()
        for made in (self._udp, self._tcp, *self._own.values()):
            if made is not None:
                self.loop.remove(made.fileno())
                made.close()


def _send(udp: socket.socket, address: Address, answer: bytes) -> None:
    try:
        udp.sendto(answer, address)
    except OSError:
        pass  # as above


def _send_from(udp: socket.socket, address: Address, control: Control, answer: bytes) -> None:
    try:
        udp.sendmsg([answer], control, 0, address)
    except OSError:
        pass
