"""unbound's questions to an island's resolver, by the island's own way: datagrams, and TCP for long answers.

Nothing is read here but the id: unbound asked, and judges what comes back. Each question has a socket of its
own, so a port of the kernel's choice; whoever forges an answer has to guess that and unbound's id.
"""

from __future__ import annotations

import socket
import sys

from appliance.config.islands import PORT, Passage
from appliance.dns64.counters import Counters
from appliance.dns64.loop import READ, WRITE, Loop, Timer
from appliance.protocol import dns

DNS_PORT = 53
# Of all islands: questions on their way, of which each has a descriptor; connections, of which each has two.
MAX_QUESTIONS = 1_024
MAX_CONNECTIONS = 64
# Seconds for an answer. unbound asks again, or elsewhere, long before; what comes later it has forgotten.
TIMEOUT = 5.0
# Seconds without an octet on a connection.
TCP_IDLE = 10.0
# Seconds between two tries of an address that could not be had.
RETRY = 5.0
_READS_A_TURN = 64
_STREAM = 65_536
_BACKLOG = 64


def _outward(passage: Passage, kind: socket.SocketKind) -> socket.socket:
    """A socket to the resolver, by the island's way; OSError where there is none now."""
    made = socket.socket(socket.AF_INET, kind)
    try:
        made.setblocking(False)
        if passage.interface is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, passage.interface.encode())
        if passage.source is not None:
            made.bind((str(passage.source), 0))
        try:
            made.connect((str(passage.resolver), DNS_PORT))
        except BlockingIOError:
            pass  # TCP: under way
    except OSError:
        made.close()
        raise
    return made


class Passages:
    """All of a configuration's. What cannot be opened is said once, and tried again."""

    def __init__(self, loop: Loop, counters: Counters) -> None:
        self.loop = loop
        self.counters = counters
        self.questions = 0
        self.connections = 0
        self._open: dict[Passage, _Door] = {}
        self._wanted: set[Passage] = set()
        self._again: Timer | None = None

    def configure(self, wanted: set[Passage]) -> None:
        """Those that stay are left alone."""
        for passage in self._open.keys() - wanted:
            self._open.pop(passage).close()
        self._wanted = wanted
        self._try(say=True)

    def _try(self, say: bool) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        for passage in self._wanted - self._open.keys():
            try:
                self._open[passage] = _Door(self, passage)
            except OSError as error:
                if say:
                    print(
                        f"isthmus-dns64: the resolver {passage.resolver} cannot be asked for its island's "
                        f"names: {passage.local} port {PORT}: {error.strerror}",
                        file=sys.stderr, flush=True,
                    )  # fmt: skip
        if self._wanted - self._open.keys():
            self._again = self.loop.after(RETRY, lambda: self._try(say=False))

    def close(self) -> None:
        """Free the sockets; what is on its way is lost."""
        self.configure(set())


class _Door:
    """Where unbound asks for one resolver."""

    def __init__(self, all_: Passages, passage: Passage) -> None:
        self.all = all_
        self.passage = passage
        self._under_way: set[_Question | _Connection] = set()
        address = (str(passage.local), PORT)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.udp.setblocking(False)
            self.udp.bind(address)
            self._tcp = socket.create_server(address, backlog=_BACKLOG)
        except OSError:
            self.udp.close()
            raise
        self._tcp.setblocking(False)
        all_.loop.add(self.udp.fileno(), READ, self._asked)
        all_.loop.add(self._tcp.fileno(), READ, self._called)

    def close(self) -> None:
        """With all that is on its way."""
        for sock in (self.udp, self._tcp):
            self.all.loop.remove(sock.fileno())
            sock.close()
        for one in list(self._under_way):
            one.close()

    def forget(self, one: _Question | _Connection) -> None:
        """It is over."""
        self._under_way.discard(one)

    def _asked(self, _events: int) -> None:
        for _ in range(_READS_A_TURN):
            try:
                packet, asker = self.udp.recvfrom(dns.MAX_MESSAGE)
            except OSError:
                return
            if self.all.questions >= MAX_QUESTIONS:
                self.all.counters.over_pending += 1
            elif len(packet) >= dns.HEADER:
                try:
                    self._under_way.add(_Question(self, packet, asker))
                except OSError:
                    pass  # no way to it now: unbound takes silence for what it is, and tries another

    def _called(self, _events: int) -> None:
        try:
            caller = self._tcp.accept()[0]
        except OSError:
            return
        caller.setblocking(False)
        if self.all.connections >= MAX_CONNECTIONS:
            self.all.counters.over_fetches += 1
            caller.close()
            return
        try:
            self._under_way.add(_Connection(self, caller))
        except OSError:
            caller.close()


class _Question:
    """One datagram, until its answer or TIMEOUT."""

    def __init__(self, door: _Door, packet: bytes, asker: tuple[str, int]) -> None:
        self._door = door
        self._asker = asker
        self._id = packet[:2]
        self._socket = _outward(door.passage, socket.SOCK_DGRAM)
        try:
            self._socket.send(packet)
        except OSError:
            self._socket.close()
            raise
        loop = door.all.loop
        loop.add(self._socket.fileno(), READ, self._readable)
        self._timer = loop.after(TIMEOUT, self.close)
        door.all.questions += 1

    def _readable(self, _events: int) -> None:
        try:
            packet = self._socket.recv(dns.MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            self.close()  # nobody listens there
            return
        if packet[:2] == self._id:
            try:
                self._door.udp.sendto(packet, self._asker)
            except OSError:
                pass  # it asks again
            self.close()

    def close(self) -> None:
        """Give up."""
        self._timer.cancel()
        self._door.all.loop.remove(self._socket.fileno())
        self._socket.close()
        self._door.all.questions -= 1
        self._door.forget(self)


class _Connection:
    """Octets both ways between unbound and the resolver. One side is read when the other has taken all."""

    def __init__(self, door: _Door, caller: socket.socket) -> None:
        self._door = door
        ends = (caller, _outward(door.passage, socket.SOCK_STREAM))
        self._ends = ends
        self._waiting = [b"", b""]  # for either end
        self._heard = door.all.loop.now
        self._closed = False
        loop = door.all.loop
        loop.add(ends[0].fileno(), READ, lambda events: self._moved(0, events))
        loop.add(ends[1].fileno(), READ, lambda events: self._moved(1, events))
        self._timer = loop.after(TCP_IDLE, self._look)
        door.all.connections += 1

    def _look(self) -> None:
        loop = self._door.all.loop
        left = self._heard + TCP_IDLE - loop.now
        if left > 0:
            self._timer = loop.after(left, self._look)
        else:
            self.close()

    def _moved(self, which: int, events: int) -> None:
        if self._closed:
            return
        other = 1 - which
        try:
            if events & WRITE and self._waiting[which]:
                self._send(which, b"")
            if events & ~WRITE and not self._waiting[other]:
                data = self._ends[which].recv(_STREAM)
                if not data:
                    self.close()
                    return
                self._heard = self._door.all.loop.now
                self._send(other, data)
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self._watch()

    def _send(self, which: int, data: bytes) -> None:
        data = self._waiting[which] + data
        self._waiting[which] = data
        try:
            self._waiting[which] = data[self._ends[which].send(data) :]
        except BlockingIOError:
            pass  # it is not connected yet, or takes no more

    def _watch(self) -> None:
        for which in (0, 1):
            events = (0 if self._waiting[1 - which] else READ) | (WRITE if self._waiting[which] else 0)
            self._door.all.loop.change(self._ends[which].fileno(), events)

    def close(self) -> None:
        """End both."""
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        for end in self._ends:
            self._door.all.loop.remove(end.fileno())
            end.close()
        self._door.all.connections -= 1
        self._door.forget(self)
