"""The relay over a simulated kernel: whatever the order of events, no byte is lost, doubled or reordered.

The kernel is edge-triggered: it reports what has changed, once. Reads and buffers are a few octets
large, so that every switch between copying and splicing is met.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from appliance.proxy import relay
from appliance.proxy.relay import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from appliance.session.record import Session

READ, PIPE, TURN = 8, 24, 3
LAN, WAN = 0, 1
RESET = struct.pack("ii", 1, 0)


class FakeSocket:
    """One leg's socket and the host behind it."""

    def __init__(self, kernel: Kernel, fd: int, content: bytes) -> None:
        self.kernel = kernel
        self.fd = fd
        self.content = content  # what the host sends in all
        self.arrived = 0
        self.read = 0
        self.eof = False  # the host's end has arrived
        self.reset = False
        self.buffered = 0  # octets sent that the host has not taken
        self.starved = False  # a send found no room: the next room is reported
        self.sent = bytearray()
        self.shut = 0
        self.closed = 0
        self.lingers = False

    def fileno(self) -> int:
        return self.fd

    def _alive(self) -> None:
        assert not self.closed, "a closed socket is used"
        if self.reset:
            raise ConnectionResetError

    def available(self) -> int:
        return self.arrived - self.read

    def take(self, size: int) -> bytes:
        """Up to ``size`` octets; b"" at the end."""
        self._alive()
        if not self.available():
            if self.eof:
                return b""
            raise BlockingIOError
        data = self.content[self.read : min(self.read + size, self.arrived)]
        self.read += len(data)
        return data

    def recv_into(self, buffer: bytearray) -> int:
        data = self.take(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: bytes | memoryview) -> int:
        self._alive()
        if self.shut:
            raise BrokenPipeError
        room = self.kernel.room - self.buffered
        if len(data) > room:
            self.starved = True
        if not room:
            raise BlockingIOError
        size = min(room, len(data))
        self.sent += data[:size]
        self.buffered += size
        return size

    def shutdown(self, _how: int) -> None:
        self._alive()
        self.shut += 1
        if self.eof:
            self.kernel.report(self, EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLOUT)

    def setsockopt(self, _level: int, _name: int, value: bytes) -> None:
        self.lingers = value == RESET

    def close(self) -> None:
        self.closed += 1


class Kernel:
    """Both sockets, pipes, and the events that wait to be reported."""

    def __init__(self, contents: tuple[bytes, bytes], room: int) -> None:
        self.room = room  # octets that a host's side buffers
        self.sockets = [FakeSocket(self, 10 + n, content) for n, content in enumerate(contents)]
        self.pipes: dict[int, bytearray] = {}  # by the read end; the write end is one higher
        self.open_ends: set[int] = set()
        self.edges: dict[int, int] = {}
        self._next = 100

    def report(self, sock: FakeSocket, events: int) -> None:
        self.edges[sock.fd] = self.edges.get(sock.fd, 0) | events

    # -- what relay calls as os.* ---------------------------------------------------------------

    def pipe2(self, _flags: int) -> tuple[int, int]:
        read = self._next
        self._next += 2
        self.pipes[read] = bytearray()
        self.open_ends |= {read, read + 1}
        return read, read + 1

    def close(self, fd: int) -> None:
        self.open_ends.remove(fd)

    def splice(self, source: int, target: int, count: int, flags: int) -> int:
        assert flags
        by_fd = {sock.fd: sock for sock in self.sockets}
        if source in by_fd:
            assert target in self.open_ends
            pipe = self.pipes[target - 1]
            if len(pipe) >= PIPE:
                raise BlockingIOError
            data = by_fd[source].take(min(count, PIPE - len(pipe)))
            pipe += data
            return len(data)
        assert source in self.open_ends
        pipe = self.pipes[source]
        assert pipe, "an empty pipe is read: its EAGAIN could mean either side"
        moved = by_fd[target].send(bytes(pipe[:count]))
        del pipe[:moved]
        return moved

    # -- what the hosts do ----------------------------------------------------------------------

    def arrive(self, side: int, size: int) -> None:
        sock = self.sockets[side]
        size = min(size, len(sock.content) - sock.arrived)
        if size and not sock.eof and not sock.reset:
            sock.arrived += size
            self.report(sock, EPOLLIN | (EPOLLOUT if sock.buffered < self.room else 0))

    def end(self, side: int) -> None:
        """The host has sent all of it, and says so."""
        sock = self.sockets[side]
        if not sock.eof and not sock.reset:
            sock.arrived = len(sock.content)
            sock.eof = True
            self.report(sock, EPOLLIN | EPOLLRDHUP | (EPOLLHUP if sock.shut else 0))

    def drain(self, side: int, size: int) -> None:
        """The host takes what was sent to it."""
        sock = self.sockets[side]
        sock.buffered = max(sock.buffered - size, 0)
        if sock.starved and sock.buffered < self.room:
            sock.starved = False
            self.report(sock, EPOLLOUT)

    def break_off(self, side: int) -> None:
        sock = self.sockets[side]
        if not sock.closed:
            sock.reset = True
            self.report(sock, EPOLLERR | EPOLLHUP | EPOLLIN | EPOLLRDHUP)


class Worker:
    """The loop of appliance/proxy/worker.py, as far as the relay sees it."""

    def __init__(self, kernel: Kernel, pipes: int) -> None:
        self.kernel = kernel
        self.handlers: dict[int, relay.Leg] = {}
        self.graves: list[Any] = []
        self.ends: list[str] = []
        self.pipes = relay.Pipes(pipes)
        self.context = relay.RelayContext(
            self.pipes, self._bury, lambda session, reason: self.ends.append(reason)
        )
        self.session = Session(1, "tcp", bytes(36), "192.0.2.1", 0.0)
        legs = relay.join(self.context, kernel.sockets[LAN], kernel.sockets[WAN], self.session)  # type: ignore[arg-type]
        for leg in legs:
            self.handlers[leg.fd] = leg

    def _bury(self, fd: int, sock: Any) -> None:
        self.handlers.pop(fd, None)
        self.graves.append(sock)

    def turn(self) -> bool:
        """One turn of the loop; False when there was nothing to do."""
        edges, self.kernel.edges = self.kernel.edges, {}
        again, self.context.again = self.context.again, []
        for leg in again:
            if not leg.closed:
                leg.pump(EPOLLRDHUP)
        for fd, events in edges.items():
            handler = self.handlers.get(fd)
            if handler is not None:
                handler.on_event(events)
        for sock in self.graves:
            sock.close()
        self.graves.clear()
        return bool(edges or again)

    def settle(self) -> None:
        """Turns until nothing happens, the hosts taking all that they get."""
        for _ in range(10_000):
            busy = self.turn()
            for side in (LAN, WAN):
                self.kernel.drain(side, self.kernel.room)
            if not busy and not self.kernel.edges and not self.context.again:
                return
        raise AssertionError("the relay spins")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything a few octets large."""
    for name, value in (("READ_SIZE", READ), ("PIPE_SIZE", PIPE), ("MAX_TURN", TURN)):
        monkeypatch.setattr(relay, name, value)
    monkeypatch.setattr(relay, "fcntl", SimpleNamespace(fcntl=lambda *_: 0))
    yield


def start(
    contents: tuple[bytes, bytes], room: int, pipes: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[Kernel, Worker]:
    """A session between two hosts."""
    kernel = Kernel(contents, room)
    fake = SimpleNamespace(
        pipe2=kernel.pipe2, close=kernel.close, splice=kernel.splice, O_NONBLOCK=1, O_CLOEXEC=1
    )
    monkeypatch.setattr(relay, "os", fake)
    return kernel, Worker(kernel, pipes)


Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "arrive", "arrive", "drain", "drain", "turn", "turn", "end"]),
        st.sampled_from([LAN, WAN]),
        st.integers(1, 200),
    ),
    max_size=60,
)
rooms = st.sampled_from([20, 200])  # less, and more, than the turn of a leg moves
pipe_limits = st.sampled_from([0, 1, 2])  # without a pipe everything is copied
contents = st.tuples(st.binary(max_size=500), st.binary(max_size=500))


def act(kernel: Kernel, worker: Worker, step: Step) -> None:
    """One thing that happens."""
    what, side, size = step
    actions: dict[str, Callable[[], object]] = {
        "arrive": lambda: kernel.arrive(side, size),
        "drain": lambda: kernel.drain(side, size),
        "end": lambda: kernel.end(side),
        "reset": lambda: kernel.break_off(side),
        "turn": worker.turn,
    }
    actions[what]()


def assert_over(kernel: Kernel, worker: Worker) -> None:
    """Nothing is left of the session."""
    assert [sock.closed for sock in kernel.sockets] == [1, 1]
    assert worker.ends and len(worker.ends) == 1
    assert not worker.context.legs
    assert not worker.handlers
    spare = {end for pipe in worker.pipes._spare for end in pipe}
    assert kernel.open_ends == spare, "a pipe has leaked"
    assert worker.pipes._made == len(worker.pipes._spare)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=contents, script=steps, room=rooms, pipes=pipe_limits)
@example(
    contents=(b"x" * 100, b""),
    script=[("arrive", LAN, 100), ("turn", 0, 1), ("end", LAN, 1)],
    room=20,
    pipes=1,
)
def test_every_byte_arrives_once_and_in_order(
    contents: tuple[bytes, bytes], script: list[Step], room: int, pipes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, worker = start(contents, room, pipes, monkeypatch)
    for step in script:
        act(kernel, worker, step)
    for side in (LAN, WAN):
        kernel.arrive(side, 1000)
    worker.settle()
    # All that has arrived has gone on, before anybody has to end for it.
    assert bytes(kernel.sockets[WAN].sent) == contents[LAN]
    assert bytes(kernel.sockets[LAN].sent) == contents[WAN]
    for side in (LAN, WAN):
        kernel.end(side)
        worker.settle()
        assert worker.ends or kernel.sockets[1 - side].shut == 1, "an end is passed on, once"
    assert_over(kernel, worker)
    assert worker.ends == ["closed"]
    assert not any(sock.lingers for sock in kernel.sockets), "an orderly end is no reset"
    assert (worker.session.to_wan, worker.session.to_lan) == (len(contents[LAN]), len(contents[WAN]))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    contents=contents,
    script=steps,
    room=rooms,
    pipes=pipe_limits,
    at=st.integers(0, 60),
    side=st.sampled_from([LAN, WAN]),
)
def test_a_reset_anywhere_ends_both_legs_with_a_reset(
    contents: tuple[bytes, bytes],
    script: list[Step],
    room: int,
    pipes: int,
    at: int,
    side: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel, worker = start(contents, room, pipes, monkeypatch)
    for step in [*script[:at], ("reset", side, 1), *script[at:]]:
        act(kernel, worker, step)
    worker.settle()
    assert_over(kernel, worker)
    for one, other in ((LAN, WAN), (WAN, LAN)):
        got = bytes(kernel.sockets[other].sent)
        assert contents[one].startswith(got), "what got through is a beginning of what was sent"
    if worker.ends == ["reset"]:
        assert kernel.sockets[1 - side].lingers, "the other host learns of it"


def test_pipes_are_bounded_and_one_with_bytes_in_it_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel, _worker = start((b"", b""), 20, 0, monkeypatch)
    pipes = relay.Pipes(2)
    first, second = pipes.take(), pipes.take()
    assert first is not None
    assert second is not None
    assert pipes.take() is None
    pipes.give(first, empty=True)
    assert pipes.take() == first
    pipes.give(first, empty=False)
    assert kernel.open_ends == set(second)
    assert pipes.take() not in (None, first)
