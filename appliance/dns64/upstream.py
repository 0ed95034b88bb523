"""The way to the resolver behind us: UDP, again by UDP where nothing comes, by TCP where it was cut."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

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
_READS_A_TURN = 64  # so that a burst of answers does not starve the clients
_BUFFER = 65_535
_SOCKET_BUFFER = 4 << 20  # octets: some thousand answers that arrive in one burst

Answered = Callable[[dns.Message | None], None]  # None: no answer in time


class _Question:
    __slots__ = ("answered", "deadline", "packet", "question", "retransmit", "tcp")

    def __init__(self, packet: bytes, question: bytes, answered: Answered) -> None:
        self.packet = packet
        self.question = question
        self.answered = answered
        self.deadline: Timer | None = None
        self.retransmit: Timer | None = None
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


class Upstream:
    """Asks the resolver at ``address``; each question is reported back exactly once."""

    def __init__(self, loop: Loop, address: IPv4Address | IPv6Address, port: int) -> None:
        self._loop = loop
        self._address = (str(address), port)
        self._pending: dict[int, _Question] = {}
        self._fetching = 0
        self._socket = _socket_for(self._address, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
        self._socket.connect(self._address)  # the kernel then drops what others send us
        loop.add(self._socket.fileno(), READ, self._readable)

    def ask(self, packet: bytes, timeout: float, answered: Answered) -> None:
        """Send a canonical query; ``answered`` gets the answer, or None after ``timeout`` seconds."""
        if len(self._pending) >= MAX_PENDING:
            answered(None)
            return
        number = secrets.randbits(16)
        while number in self._pending:
            number = secrets.randbits(16)
        end = dns.skip_name(packet, dns.HEADER) + 4
        question = _Question(number.to_bytes(2, "big") + packet[2:], packet[dns.HEADER : end], answered)
        self._pending[number] = question
        question.deadline = self._loop.after(timeout, lambda: self._close(number, None))
        if timeout > RETRANSMIT:
            question.retransmit = self._loop.after(RETRANSMIT, lambda: self._send(question))
        self._send(question)

    def _send(self, question: _Question) -> None:
        try:
            self._socket.send(question.packet)
        except OSError:
            pass  # a full buffer or nobody listening: the retransmission or the deadline deals with it

    def _readable(self, _events: int) -> None:
        for _ in range(_READS_A_TURN):
            try:
                packet = self._socket.recv(_BUFFER)
            except BlockingIOError:
                return
            except OSError:
                continue  # ICMP's "port unreachable" to an earlier question
            if len(packet) >= dns.HEADER:
                self._arrived(int.from_bytes(packet[:2], "big"), packet, by_tcp=False)

    def _arrived(self, number: int, packet: bytes, *, by_tcp: bool) -> None:
        question = self._pending.get(number)
        if question is None or (question.tcp is not None and not by_tcp):
            return
        if not dns.answers_question(packet, question.question):
            return
        if packet[2] & 0x02 and not by_tcp:
            self._fetch(number, question)
            return
        try:
            # The client's own spelling of the name, should the upstream have changed its case.
            head = packet[: dns.HEADER] + question.question
            message = dns.parse(head + packet[len(head) :])
        except dns.DnsError:
            return
        self._close(number, message)

    def _fetch(self, number: int, question: _Question) -> None:
        if self._fetching >= MAX_TCP:
            self._close(number, None)
            return

        def done(packet: bytes | None) -> None:
            if packet is None or packet[:2] != question.packet[:2]:
                self._close(number, None)
                return
            self._arrived(number, packet, by_tcp=True)
            self._close(number, None)  # where it did not fit the question

        if question.retransmit:
            question.retransmit.cancel()
        try:
            question.tcp = _TcpFetch(self._loop, self._address, question.packet, done)
        except OSError:  # out of descriptors
            self._close(number, None)
            return
        self._fetching += 1

    def _close(self, number: int, message: dns.Message | None) -> None:
        question = self._pending.pop(number, None)
        if question is None:
            return
        for timer in (question.deadline, question.retransmit):
            if timer is not None:
                timer.cancel()
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
