"""Names to addresses, for the dialler: questions to the box's own unbound, and a small cache before it.

A question is (name, type). While it is on its way all who ask the same wait for its one answer. unbound is on
loopback, where nobody outside can send from its address; an answer needs the right port, the random id and
the very question, octet by octet, to be taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EAGAIN
from socket import AF_INET, AF_INET6, SO_RCVBUF, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOL_SOCKET, socket
from typing import NamedTuple

from appliance.dataplane import UNBOUND_PORT
from appliance.errors import Failure
from appliance.protocol import dns
from appliance.proxy.loop import Handler, Loop, Timer
from appliance.proxy.relay import EPOLLIN

# Seconds until a question is sent once more. What is lost on loopback was lost to a full buffer, or to an
# unbound that is being started. Shorter would double the load of slow names, longer eat clients' patience.
RETRANSMIT = 1.0
# Seconds until it is given up. unbound needs two to find that one of its upstreams is dead; a client that
# gets an error later than this has mostly gone.
NAME_TIMEOUT = 5.0
# Questions on their way. More would make the random ids of 16 bits easier to hit, fewer would fail the good
# names of a worker whose upstreams hang: 1,600 new names a second fill it in NAME_TIMEOUT.
MAX_PENDING = 16_384
# Answers that are remembered, the failures to answer not among them; the oldest half goes when it is full. An
# entry is about 400 octets. unbound's cache is 50 µs away: this one only spares a busy worker those.
MAX_CACHED = 16_384
# Seconds that an answer is kept, whatever its TTL. The floor spares a name with TTL 0 a question for each
# session of a page; a higher one would hold on to an address that was moved. The ceiling is how long an
# operator's change in unbound may take to be seen.
MIN_TTL = 1
MAX_TTL = 300
MAX_NEGATIVE_TTL = 30  # a name that was just made should not stay away for long
# Addresses that are kept of an answer: more than a dial tries, so that a few forbidden ones do no harm.
MAX_ADDRESSES = 16

# The size that is announced to unbound, which max-udp-size of its configuration allows: no packet on loopback
# is too large, so that there is nothing to ask again by TCP.
EDNS_SIZE = 65_507
_OPTIONS = b"\0" + dns.OPT.to_bytes(2, "big") + EDNS_SIZE.to_bytes(2, "big") + bytes(6)
_FLAGS = dns.header(dns.RD, 0, 1)[2:]
_RECEIVE_BUFFER = 1 << 20  # octets: the answers of one burst
_READS_A_TURN = 64  # so that a burst of answers does not starve the sessions
_IDS_AT_ONCE = 256

_TYPES = ((AF_INET6, dns.AAAA, 16), (AF_INET, dns.A, 4))


class Answer(NamedTuple):
    """What one family's question came to: addresses, or why there are none."""

    family: int  # AF_INET or AF_INET6
    addresses: tuple[bytes, ...]  # packed, 4 or 16 octets; empty where it failed
    failure: Failure | None  # NO_NAME, NAME_FAILED, NAME_TIMEOUT
    aliases: tuple[str, ...] = ()  # names that the asked one leads to by CNAME, in the answer's order


Done = Callable[[Answer], None]


class _Question:
    """One on its way, and who waits for it."""

    __slots__ = ("family", "number", "qtype", "size", "timer", "waiting", "wire")

    def __init__(self, family: int, qtype: int, size: int, number: int, wire: bytes, done: Done) -> None:
        self.family = family
        self.qtype = qtype
        self.size = size  # of an address
        self.number = number
        self.wire = wire  # name, type, class
        self.waiting = [done]
        self.timer: Timer | None = None

    @property
    def packet(self) -> bytes:
        """The message."""
        return self.number.to_bytes(2, "big") + _FLAGS + self.wire + _OPTIONS


class Resolver(Handler):
    """Asks unbound for A and AAAA records; plain recursion, nothing is synthesised."""

    def __init__(self, loop: Loop, address: tuple[str, int] = ("127.0.0.1", UNBOUND_PORT)) -> None:
        """OSError where there is no socket to be had."""
        self._loop = loop
        self._pending: dict[int, _Question] = {}  # by id
        self._asked: dict[bytes, _Question] = {}  # by question
        self._cache: dict[bytes, tuple[float, Answer]] = {}  # by question: until when, what
        self._ids = b""
        self._socket = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
        self._socket.setsockopt(SOL_SOCKET, SO_RCVBUF, _RECEIVE_BUFFER)
        self._socket.connect(address)  # the kernel then drops what others send us
        loop.watch(self._socket.fileno(), self, EPOLLIN)

    def resolve(self, name: str, done: Done) -> None:
        """Ask for both families of ``name`` (as ``protocol.names.host_name`` gives it) at once.

        ``done`` is called exactly twice, once for each family, as its result comes: from the cache, before
        this returns. The name does not exist, or has no such address: NO_NAME. Any other answer without
        addresses, or too many questions: NAME_FAILED. None within NAME_TIMEOUT: Failure.NAME_TIMEOUT.
        """
        wire = dns.wire_name(name)
        for family, qtype, size in _TYPES:
            question = wire + qtype.to_bytes(2, "big") + b"\0\1"
            known = self._cache.get(question)
            if known is not None and known[0] > self._loop.now:
                done(known[1])
                continue
            asked = self._asked.get(question)
            if asked is not None:
                asked.waiting.append(done)
            elif len(self._pending) >= MAX_PENDING:
                done(Answer(family, (), Failure.NAME_FAILED))
            else:
                self._ask(_Question(family, qtype, size, self._draw(), question, done))

    def forget(self) -> None:
        """Empty the cache."""
        self._cache.clear()

    def close(self) -> None:
        """Free the socket; what is pending is never reported."""
        for question in self._pending.values():
            if question.timer is not None:
                question.timer.cancel()
        self._pending.clear()
        self._asked.clear()
        self._loop.bury(self._socket.fileno(), self._socket)

    # -- a question ----------------------------------------------------------------------------

    def _draw(self) -> int:
        """A free id of 16 random bits, the kernel asked for many at once."""
        while True:
            if not self._ids:
                self._ids = os.urandom(2 * _IDS_AT_ONCE)
            number = int.from_bytes(self._ids[:2], "big")
            self._ids = self._ids[2:]
            if number not in self._pending:
                return number

    def _ask(self, question: _Question) -> None:
        self._pending[question.number] = question
        self._asked[question.wire] = question
        question.timer = self._loop.at(RETRANSMIT, lambda: self._again(question))
        self._send(question)

    def _again(self, question: _Question) -> None:
        left = NAME_TIMEOUT - RETRANSMIT
        question.timer = self._loop.at(
            left, lambda: self._close(question, Answer(question.family, (), Failure.NAME_TIMEOUT))
        )
        self._send(question)

    def _send(self, question: _Question) -> None:
        try:
            self._socket.send(question.packet)
        except OSError:
            pass  # a full buffer, or nobody listening yet: the next one, or the deadline, deals with it

    # -- an answer -----------------------------------------------------------------------------

    def on_event(self, events: int) -> None:
        """Answers wait."""
        receive = self._socket.recv
        for _ in range(_READS_A_TURN):
            try:
                packet = receive(dns.MAX_MESSAGE)
            except OSError as error:
                if error.errno == EAGAIN:
                    return
                continue  # ICMP's "port unreachable" to an earlier question
            if len(packet) >= dns.HEADER:
                self._arrived(packet)

    def _arrived(self, packet: bytes) -> None:
        question = self._pending.get(packet[0] << 8 | packet[1])
        if question is None:
            return
        end = dns.HEADER + len(question.wire)
        if packet[dns.HEADER : end] != question.wire or not dns.answers_question(packet, question.wire):
            return
        try:
            message = dns.parse_answer(packet, question.wire)
        except dns.DnsError:
            return
        answer, ttl = _read(message, question)
        if ttl:
            self._remember(question.wire, answer, ttl)
        self._close(question, answer)

    def _remember(self, wire: bytes, answer: Answer, ttl: int) -> None:
        cache = self._cache
        if len(cache) >= MAX_CACHED:
            for old in list(cache)[: MAX_CACHED // 2]:
                del cache[old]
        cache.pop(wire, None)  # the newest stand last
        cache[wire] = (self._loop.now + ttl, answer)

    def _close(self, question: _Question, answer: Answer) -> None:
        del self._pending[question.number]
        del self._asked[question.wire]
        if question.timer is not None:
            question.timer.cancel()
        for done in question.waiting:
            done(answer)


def _read(message: dns.Message, question: _Question) -> tuple[Answer, int]:
    """What a message says, and for how many seconds; 0: it is not to be remembered.

    The answer section is taken as unbound gives it, with all that it has found behind CNAMEs. One that is
    truncated all the same (EDNS_SIZE) serves with what it has.
    """
    family, rcode = question.family, message.rcode
    if rcode == dns.Rcode.NOERROR:
        records = [record for record in message.answers(question.qtype) if record.length == question.size]
        if records:
            addresses = tuple(dict.fromkeys(message.data(record) for record in records[:MAX_ADDRESSES]))
            chain = message.answers(dns.CNAME)
            ttl = min(max(min(record.ttl for record in records + chain), MIN_TTL), MAX_TTL)
            return Answer(family, addresses, None, _aliases(message, chain)), ttl
    if rcode not in (dns.Rcode.NOERROR, dns.Rcode.NXDOMAIN) or message.flags & dns.TC:
        return Answer(family, (), Failure.NAME_FAILED), 0
    ttl = min(max(message.soa_ttl() or 0, MIN_TTL), MAX_NEGATIVE_TTL)
    return Answer(family, (), Failure.NO_NAME), ttl


def _aliases(message: dns.Message, chain: list[dns.Record]) -> tuple[str, ...]:
    """The names that the records of a chain lead to."""
    found = []
    for record in chain[: dns.MAX_ALIASES]:
        try:
            found.append(dns.name_text(dns.read_name(message.packet, record.data)[0]))
        except dns.DnsError:
            break  # unbound sends none; what was read so far is judged
    return tuple(found)
