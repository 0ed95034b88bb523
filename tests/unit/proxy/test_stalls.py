"""A tunnel in which nothing moves is given up, though neither end says anything."""

from __future__ import annotations

import socket

import pytest

from appliance.config import parse
from appliance.proxy.context import Context
from appliance.proxy.kernel import Kernel
from appliance.proxy.stream import Owner, Stream
from appliance.proxy.tally import Tally, shared_words
from appliance.proxy.tunnel import CopiedTunnel
from appliance.session.log import Log
from appliance.session.record import OPEN, Session


@pytest.fixture
def context() -> Context:
    made = Context(Kernel(4096), parse(""), -1, Log(None, 0), Tally(shared_words()))
    made.configure(parse(""), 100)
    return made


def pair(context: Context) -> tuple[Stream, socket.socket]:
    """A stream, and the far end of its connection."""
    near, far = socket.socketpair()
    near.setblocking(False)
    fd = near.detach()
    context.kernel.adopt(fd)
    return Stream(context, fd, Owner()), far


def open_ends(*streams: Stream) -> int:
    """How many of the streams are open."""
    return sum(not stream.closed for stream in streams)


def test_a_tunnel_that_moves_nothing_for_a_lifetime(context: Context) -> None:
    client, client_end = pair(context)
    origin, origin_end = pair(context)
    session: Session = context.open("tcp", bytes(36), "192.0.2.1", OPEN)
    tunnel = CopiedTunnel(context, client, origin, session)
    tunnel.begin(b"")
    lifetime = context.config.proxy.timers.tcp_established
    second = int(context.now)
    context.timers.advance(second + lifetime)
    assert open_ends(client, origin) == 2  # it is asked for the first time
    tunnel.on_data(client, b"x")
    context.timers.advance(second + 2 * lifetime)
    assert open_ends(client, origin) == 2
    context.timers.advance(second + 3 * lifetime)
    assert open_ends(client, origin) == 0
    assert not context.sessions
    assert len(context.timers) == 0
    context.close_buried()
    client_end.close()
    origin_end.close()
