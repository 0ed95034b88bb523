"""A body that is spliced towards an origin that has its say before it has all of it."""

from __future__ import annotations

import socket

from appliance.proxy.body import SplicedBody
from appliance.proxy.kernel import Kernel
from appliance.proxy.loop import Loop
from appliance.proxy.relay import LEG_EVENTS, Pipes, RelayContext
from appliance.proxy.stream import Owner, Stream

LENGTH = 8 << 20


class Body:
    """Octets that are to come."""

    left = LENGTH

    def passed(self, octets: int) -> None:
        """So many have."""
        self.left -= octets


def _pair(loop: Loop) -> tuple[Stream, socket.socket]:
    listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    far = socket.create_connection(listener.getsockname()[:2])
    near, _address = listener.accept()
    listener.close()
    near.setblocking(False)
    far.settimeout(10)
    fd = near.detach()
    loop.kernel.adopt(fd)
    stream = Stream(loop, fd, Owner())
    loop.watch(fd, stream, LEG_EVENTS)
    return stream, far


def _turn(loop: Loop) -> None:
    loop.dispatch(loop.wait(0.05))
    loop.close_buried()


def test_the_origin_speaks_and_takes_more_in_one_event() -> None:
    """What was in the pipe goes on: the event that says there is room is not told again."""
    loop = Loop(Kernel(65_536))
    relay = RelayContext(loop, Pipes(loop.kernel, 4))
    source, client = _pair(loop)
    target, origin = _pair(loop)
    _turn(loop)
    client.setblocking(False)
    counted: list[int] = []
    ended: list[bool] = []
    spliced = SplicedBody(relay, source, target, Body(), counted.append, lambda: ended.append(True), target)
    assert spliced.begin()
    for _ in range(1_000):
        try:
            client.send(bytes(65_536))
        except BlockingIOError:
            if not spliced.empty:
                break
        _turn(loop)
    assert not spliced.empty, "the origin's window never filled"
    # Both at once: it reads, which makes room, and it answers.
    taken = 0
    while taken < sum(counted):
        taken += len(origin.recv(1 << 20))
    origin.send(b"HTTP/1.1 413 Content Too Large\r\n\r\n")
    _turn(loop)
    assert ended == [True]
    for _ in range(50):
        _turn(loop)
        if taken == sum(counted):
            break
        origin.settimeout(1)
        taken += len(origin.recv(1 << 20))
    assert taken == sum(counted)
    assert target.unsent == b""
    for far in (client, origin):
        far.close()
    source.abort()
    target.abort()
    loop.close_buried()
