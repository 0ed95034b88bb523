"""The sockets of the short way (misses.py): some of the clients', and one of its own upstream."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

from appliance.dns64 import batch
from appliance.dns64.counters import Counters
from appliance.dns64.loop import READ, Loop
from appliance.dns64.misses import Misses, Outbox
from appliance.dns64.resolver import Resolver

_SOCKET_BUFFER = 4 << 20  # octets: some thousand datagrams that arrive in one burst


class Quick:
    """Serves sockets bound to one address each; what is not plain it leaves to the resolver.

    ``upstream`` is the resolver behind us: its address as text, its port. As in upstream.py the source port
    is one for the life of the process, the ids are random, and the question is compared.
    """

    def __init__(self, loop: Loop, resolver: Resolver, upstream: tuple[str, int], counters: Counters) -> None:
        self._loop = loop
        self._resolver = resolver
        self._counters = counters
        self._served: list[tuple[socket.socket, Outbox]] = []
        self._sweeping = False
        self.misses = Misses(batch.client_of, resolver.told)
        resolver.follow(self.misses)
        family = socket.AF_INET6 if ":" in upstream[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
        self._socket.connect(upstream)  # the kernel then drops what others send us
        loop.add(self._socket.fileno(), READ, self._answers)

    def serve(self, udp: socket.socket) -> None:
        """Answer what comes to this socket from now on. It stays the caller's to close."""
        outbox: Outbox = []
        self._served.append((udp, outbox))
        self._loop.add(udp.fileno(), READ, partial(self._questions, udp, outbox))

    def _questions(self, udp: socket.socket, outbox: Outbox, _events: int) -> None:
        left = self.misses.take(batch.receive(udp), outbox, self._loop.now)
        self._flush()
        for packet, address in left:
            self._resolver.handle(packet, batch.name_of(address), False, self._reply(udp, address))

    def _answers(self, _events: int) -> None:
        misses = self.misses
        misses.answered(batch.receive_connected(self._socket), self._loop.now)
        self._flush()
        self._give_back()

    def _flush(self) -> None:
        for udp, outbox in self._served:
            if outbox:
                batch.send(udp, outbox)
                outbox.clear()
        misses = self.misses
        if misses.questions:
            batch.send_connected(self._socket, misses.questions)
            misses.questions.clear()
            if not self._sweeping:
                self._sweeping = True
                self._sweep()

    def _give_back(self) -> None:
        misses = self.misses
        if misses.mismatched:
            self._counters.mismatched += misses.mismatched
            misses.mismatched = 0
        odd, misses.odd = misses.odd, []
        for miss, answer in odd:
            udp = next(udp for udp, outbox in self._served if outbox is miss.outbox)
            known = (miss.empty, answer) if misses.current(miss) else (b"", b"")
            self._resolver.resume(
                miss.packet, batch.name_of(miss.address), self._reply(udp, miss.address), *known
            )

    def _reply(self, udp: socket.socket, address: Any) -> Any:
        return partial(_send, udp, batch.tuple_of(address))

    def _sweep(self) -> None:
        again = self.misses.sweep(self._loop.now)
        self._sweeping = again > 0
        if self._sweeping:
            self._loop.after(max(again - self._loop.now, 0.0), self._sweep)
        self._give_back()

    def close(self) -> None:
        """Free the socket upstream; what is on its way is never answered."""
        self._loop.remove(self._socket.fileno())
        self._socket.close()


def _send(udp: socket.socket, address: tuple[str, int, int, int], answer: bytes) -> None:
    try:
        udp.sendto(answer, address)
    except OSError:
        pass  # UDP may lose it; the client asks again
