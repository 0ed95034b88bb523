"""The clients' side: UDP and TCP on one port."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address

from appliance.dns64.loop import READ, WRITE, Loop, Timer
from appliance.dns64.resolver import Resolver
from appliance.protocol import dns

# Whole sites sit behind one box, but few clients use TCP at one time; each costs a descriptor.
MAX_TCP_CLIENTS = 512
# Seconds (RFC 7766 section 6.2.3: a few). Longer lets idle clients use up the connections.
TCP_IDLE = 10.0
# Questions of one connection that wait for their answer; then we stop reading until some went out.
MAX_PIPELINED = 100
# Octets that a client does not fetch; beyond, the connection is dropped.
MAX_UNSENT = 4 * dns.MAX_MESSAGE
_BACKLOG = 256
_DATAGRAM = 65_535
_READS_A_TURN = 64  # so that a burst of questions does not starve the answers
_SOCKET_BUFFER = 4 << 20  # octets
_CONTROL = socket.CMSG_SPACE(20)  # struct in6_pktinfo

Address = tuple[str, int] | tuple[str, int, int, int]
Control = list[tuple[int, int, bytes]]


def _client(address: Address) -> IPv6Address | None:
    text = address[0].partition("%")[0]
    return IPv6Address(text) if ":" in text else None


class _TcpClient:
    """One connection. Answers go out as they come, in any order (RFC 7766 section 7)."""

    def __init__(self, server: Server, connection: socket.socket, address: Address) -> None:
        self._server = server
        self._loop = server.loop
        self._socket = connection
        self._client = _client(address)
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
                data = self._socket.recv(_DATAGRAM)
                if data:
                    self._seen = self._loop.now
                    self._in += data
                    self._queue += dns.take_stream(self._in)
                else:
                    self._ended = True
            self._work()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def _work(self) -> None:
        while self._queue and self._waiting < MAX_PIPELINED and not self._closed:
            packet = self._queue.pop(0)
            if len(packet) < 4 or packet[2] & 0x80:
                self.close()  # no DNS client; nothing could be answered
                return
            self._waiting += 1
            self._server.resolver.handle(packet, self._client, True, self._answer)
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
            self._server.clients.discard(self)


class Server:
    """Listens on ``address`` and ``port``; raises OSError where that cannot be had."""

    def __init__(self, loop: Loop, resolver: Resolver, address: IPv4Address | IPv6Address, port: int) -> None:
        self.loop = loop
        self.resolver = resolver
        self.clients: set[_TcpClient] = set()
        six = address.version == 6
        family = socket.AF_INET6 if six else socket.AF_INET
        self._udp = socket.socket(family, socket.SOCK_DGRAM)
        self._tcp = socket.socket(family, socket.SOCK_STREAM)
        for made in (self._udp, self._tcp):
            made.setblocking(False)
            if six:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
            # On the wildcard the kernel would pick the source of each answer by its routes; a client
            # drops an answer that comes from another address than it asked.
            self._pktinfo = six and address.is_unspecified
            if self._pktinfo:
                self._udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._udp.bind((str(address), port))
            self._tcp.bind((str(address), port))
            self._tcp.listen(_BACKLOG)
        except OSError:
            self._udp.close()
            self._tcp.close()
            raise
        loop.add(self._udp.fileno(), READ, self._datagrams)
        loop.add(self._tcp.fileno(), READ, self._accept)

    def _datagrams(self, _events: int) -> None:
        udp, handle = self._udp, self.resolver.handle
        for _ in range(_READS_A_TURN):
            control: Control = []
            try:
                if self._pktinfo:
                    packet, control, _flags, address = udp.recvmsg(_DATAGRAM, _CONTROL)
                else:
                    packet, address = udp.recvfrom(_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error to an earlier answer
            if address[1] == 0:
                continue  # nobody can be answered there

            def reply(answer: bytes, address: Address = address, control: Control = control) -> None:
                try:
                    if control:
                        udp.sendmsg([answer], control, 0, address)
                    else:
                        udp.sendto(answer, address)
                except OSError:
                    pass  # UDP may lose it; the client asks again

            handle(packet, _client(address), False, reply)

    def _accept(self, _events: int) -> None:
        try:
            connection, address = self._tcp.accept()
        except OSError:
            return
        connection.setblocking(False)
        if len(self.clients) >= MAX_TCP_CLIENTS:
            connection.close()
            return
        self.clients.add(_TcpClient(self, connection, address))

    def close(self) -> None:
        """Free every socket."""
        for client in list(self.clients):
            client.close()
        for made in (self._udp, self._tcp):
            self.loop.remove(made.fileno())
            made.close()
