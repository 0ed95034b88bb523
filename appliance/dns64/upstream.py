"""The way to the resolver behind us: UDP, again by UDP where nothing comes, by TCP where it was cut."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from appliance.dns64.counters import Counters
from appliance.dns64.loop import READ, WRITE, Loop, Timer
from appliance.protocol import dns

# Seconds until a query is sent once more. unbound is on loopback: what is lost there was lost to a
# full buffer. Shorter would double the load of slow names, longer would eat the client's patience.
RETRANSMIT = 1.0
# Questions on their way. Ids are 16 bits: half of them in use keeps a free one easy to find and hard
# to guess. Beyond, the client gets SERVFAIL at once.
MAX_PENDING = 16_384
# Truncated answers fetched by TCP at one time; each is a descriptor.
MAX_TCP = 128
_IDS_AT_ONCE = 512
_READS_A_TURN = 64  # so that a burst of answers does not starve the clients
_BUFFER = 65_535
_SOCKET_BUFFER = 4 << 20  # octets: some thousand answers that arrive in one burst

Answered = Callable[[dns.Message | None], None]  # None: no answer in time


class _Question:
    __slots__ = ("answered", "deadline", "number", "packet", "question", "tcp", "timeout")

    def __init__(
        self, number: int, packet: bytes, question: bytes, timeout: float, answered: Answered
    ) -> None:
        self.number = number
        self.packet = packet
        self.question = question
        self.timeout = timeout
        self.answered = answered
        self.deadline: Timer | None = None
        self.tcp: _TcpFetch | None = None


class _TcpFetch:
    """One question by TCP (RFC 7766), on a connection of its own."""

    def __init__(
        self, loop: Loop, address: tuple[str, int], packet: bytes, done: Callable[[bytes | None], None]
    ) -> None:
        self._loop = loop
        self._done = done
        self._out = len(packet).to_bytes(2, "big") + packet
        self._in = bytearray()
        self._socket = _socket_for(address, socket.SOCK_STREAM)
        self._socket.connect_ex(address)  # an error shows as an event
        loop.add(self._socket.fileno(), WRITE, self._ready)

    def _ready(self, events: int) -> None:
        try:
            if self._out:
                sent = self._socket.send(self._out)
                self._out = self._out[sent:]
                if not self._out:
                    self._loop.change(self._socket.fileno(), READ)
                return
            data = self._socket.recv(_BUFFER)
        except BlockingIOError:
            return
        except OSError:
            self._finish(None)
            return
        self._in += data
        found = dns.take_stream(self._in)
        if found or not data:
            self._finish(found[0] if found else None)

    def _finish(self, packet: bytes | None) -> None:
        self.close()
        self._done(packet)

    def close(self) -> None:
        """Give up; nothing is reported."""
        if self._socket.fileno() >= 0:
            self._loop.remove(self._socket.fileno())
            self._socket.close()


def _socket_for(address: tuple[str, int], kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    made = socket.socket(family, kind)
    made.setblocking(False)
    return made


class _Identities:
    """Unpredictable ids, the kernel asked for many at once."""

    def __init__(self) -> None:
        self._pool = b""

    def draw(self) -> int:
        """16 random bits."""
        if not self._pool:
            self._pool = os.urandom(_IDS_AT_ONCE * 2)
        number = int.from_bytes(self._pool[:2], "big")
        self._pool = self._pool[2:]
        return number


class Upstream:
    """Asks the resolver at ``address``; each question is reported back exactly once.

    Its source port is the kernel's choice, and one for the life of the process: the resolver is on
    loopback, where nobody outside can send from its address. Behind it unbound has a port for each
    question. An answer needs the right port, the random id and the very question to be taken.
    """

    def __init__(self, loop: Loop, address: IPv4Address | IPv6Address, port: int, counters: Counters) -> None:
        self._loop = loop
        self._counters = counters
        self._address = (str(address), port)
        self._pending: dict[int, _Question] = {}
        # Most questions are answered before they would be repeated. They cost no timer each: all wait
        # equally long, so the oldest is always the next one due.
        self._fresh: deque[tuple[float, _Question]] = deque()
        self._sweeping = False
        self._ids = _Identities()
        self._fetching = 0
        self._socket = _socket_for(self._address, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
        self._socket.connect(self._address)  # the kernel then drops what others send us
        loop.add(self._socket.fileno(), READ, self._readable)

    def ask(self, packet: bytes, timeout: float, answered: Answered) -> None:
        """Send a canonical query; ``answered`` gets the answer, or None after ``timeout`` seconds.

        The timeout is longer than RETRANSMIT.
        """
        pending = self._pending
        if len(pending) >= MAX_PENDING:
            self._counters.over_pending += 1
            answered(None)
            return
        number = self._ids.draw()
        while number in pending:
            number = self._ids.draw()
        end = dns.skip_name(packet, dns.HEADER) + 4
        question = _Question(
            number, number.to_bytes(2, "big") + packet[2:], packet[dns.HEADER : end], timeout, answered
        )
        pending[number] = question
        self._fresh.append((self._loop.now + RETRANSMIT, question))
        if not self._sweeping:
            self._sweeping = True
            self._loop.after(RETRANSMIT, self._sweep)
        self._send(question)

    def _sweep(self) -> None:
        """Repeat what was not answered, and give each of those a deadline."""
        fresh, now = self._fresh, self._loop.now
        while fresh and fresh[0][0] <= now:
            question = fresh.popleft()[1]
            if self._pending.get(question.number) is question:
                self._expire_later(question)
                if question.tcp is None:
                    self._send(question)
        self._sweeping = bool(fresh)
        if fresh:
            self._loop.after(fresh[0][0] - now, self._sweep)

    def _expire_later(self, question: _Question) -> None:
        question.deadline = self._loop.after(
            question.timeout - RETRANSMIT, lambda: self._close(question, None)
        )

    def _send(self, question: _Question) -> None:
        try:
            self._socket.send(question.packet)
        except OSError:
            pass  # a full buffer or nobody listening: the retransmission or the deadline deals with it

    def _readable(self, _events: int) -> None:
        recv = self._socket.recv
        for _ in range(_READS_A_TURN):
            try:
                packet = recv(_BUFFER)
            except BlockingIOError:
                return
            except OSError:
                continue  # ICMP's "port unreachable" to an earlier question
            if len(packet) >= dns.HEADER:
                self._arrived(packet)

    def _arrived(self, packet: bytes, by_tcp: bool = False) -> None:
        question = self._pending.get(packet[0] << 8 | packet[1])
        if question is None or not dns.answers_question(packet, question.question):
            self._counters.mismatched += 1
            return
        if question.tcp is not None and not by_tcp:
            return
        if packet[2] & 0x02 and not by_tcp:
            self._fetch(question)
            return
        try:
            message = dns.parse_answer(packet, question.question)
        except dns.DnsError:
            self._counters.mismatched += 1
            return
        self._close(question, message)

    def _fetch(self, question: _Question) -> None:
        if self._fetching >= MAX_TCP:
            self._counters.over_fetches += 1
            self._close(question, None)
            return

        def done(packet: bytes | None) -> None:
            if packet is not None and len(packet) >= dns.HEADER and packet[:2] == question.packet[:2]:
                self._arrived(packet, by_tcp=True)
            self._close(question, None)  # where it did not fit the question

        try:
            question.tcp = _TcpFetch(self._loop, self._address, question.packet, done)
        except OSError:  # out of descriptors
            self._close(question, None)
            return
        self._fetching += 1

    def _close(self, question: _Question, message: dns.Message | None) -> None:
        if self._pending.get(question.number) is not question:
            return
        del self._pending[question.number]
        if question.deadline is not None:
            question.deadline.cancel()
        if question.tcp is not None:
            question.tcp.close()
            self._fetching -= 1
        question.answered(message)

    def close(self) -> None:
        """Free the sockets; what is pending is never reported."""
        for question in self._pending.values():
            if question.tcp is not None:
                question.tcp.close()
        self._loop.remove(self._socket.fileno())
        self._socket.close()
