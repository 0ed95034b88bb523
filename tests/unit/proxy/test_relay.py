"""The relay over a kernel that does whatever a kernel may do, at the worst moment.

The kernel here is a model of Linux's TCP as an edge-triggered loop sees it::

    far end  --send/fin/reset-->  inbox | Socket | outbox  --drain-->  far end
                                            Leg

What Hypothesis draws is a script of what the far ends do, and for each system call of the relay its luck:
all is well, would block, a part only, an error, or a far end doing something just before it.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.proxy import kernel as system
from appliance.proxy import loop as loops
from appliance.proxy import relay
from appliance.proxy.relay import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, Pipes, RelayContext
from appliance.session.record import Session

# Small, so that a handful of bytes is bulk, fills a pipe and outlasts a turn.
READ_SIZE = 8
PIPE_SIZE = 24
MAX_TURN = 3
MAX_SPARE_PIPES = 1
# No script takes a loop that does its work nearly as many rounds; one that spins takes more.
MAX_ROUNDS = 500

Luck = tuple[str, Any]


def code_of(error: OSError) -> int:
    """What a call of the kernel answers in place of the exception."""
    assert error.errno
    return -error.errno


def would_block() -> None:
    raise BlockingIOError(errno.EAGAIN, "would block")


def text(start: int, size: int) -> bytes:
    """``size`` bytes of a stream in which no two stretches of a few bytes are alike."""
    return bytes((at * at + (at >> 3)) % 251 for at in range(start, start + size))


# -- the kernel ------------------------------------------------------------------------------------


class FakeSocket:
    """A connected, non-blocking TCP socket, and the far end's view of it."""

    def __init__(self, kernel: Kernel, fd: int, room: int) -> None:
        self.kernel = kernel
        self.fd = fd
        self.room = room  # the send buffer's size
        self.said = bytearray()  # by the far end, in all
        self.inbox = bytearray()  # of that, what was not read yet
        self.mark: int | None = None  # where in the inbox an urgent byte is
        self.fin = False  # the far end's
        self.dead = False  # after a reset
        self.error = 0
        self.taken = bytearray()  # from the relay, in all
        self.outbox = 0  # of that, what the far end did not read yet
        self.no_space = False
        self.shutdowns = 0
        self.linger = False
        self.closes = 0
        self.woken = True  # to be looked at by the next poll; registering does that

    # What the far end does.

    def say(self, size: int, urgent: bool = False) -> None:
        if self.fin or self.dead or self.closes:
            return
        if urgent and self.mark is None:
            self.mark = len(self.inbox)
        data = text(len(self.said), size)
        self.said += data
        self.inbox += data
        self.woken = True

    def end(self) -> None:
        if not self.dead and not self.closes:
            self.fin = True
            self.woken = True

    def reset(self) -> None:
        if not self.dead and not self.closes:
            self.dead = True
            self.error = errno.EPIPE if self.fin else errno.ECONNRESET
            self.outbox = 0
            self.woken = True
            self.kernel.resets += 1

    def drain(self, size: int) -> None:
        self.outbox = max(self.outbox - size, 0)
        if self.no_space and self.writable():
            self.no_space = False
            self.woken = True

    # What epoll sees.

    def writable(self) -> bool:
        return (self.room - self.outbox) * 3 >= self.room

    def poll(self) -> int:
        mask = 0
        if self.inbox or self.fin or self.dead:
            mask |= EPOLLIN
        if self.fin or self.dead:
            mask |= EPOLLRDHUP
        if self.dead or (self.fin and self.shutdowns):
            mask |= EPOLLHUP
        if self.error:
            mask |= EPOLLERR
        if self.mark is not None:
            mask |= select.EPOLLPRI & relay.LEG_EVENTS
        if self.shutdowns or self.dead or self.writable():
            mask |= EPOLLOUT
        else:
            self.no_space = True
        return mask

    # What the relay calls; an error is an OSError here, and a number once it is through the kernel.

    def recv_into(self, buffer: bytearray) -> int:
        self.kernel.tempt(self)
        if not self.inbox:
            if self.error and not self.fin:
                self.raise_error()
            if self.fin or self.dead:
                return 0
            would_block()
        if self.mark == 0:
            self.mark = None  # the sockets keep it in line
        # Linux reads short of an urgent byte, and else whatever there is.
        size = min(len(buffer), self.readable())
        buffer[:size] = self.read(size)
        return size

    def send(self, data: bytes | memoryview) -> int:
        return self.write(bytes(data), self.kernel.tempt(self))

    def shutdown(self) -> None:
        self.kernel.tempt(self, may_block=False)
        if self.dead:
            raise OSError(errno.ENOTCONN, "not connected")
        self.shutdowns += 1
        self.kernel.on_shutdown(self)

    # Both of recv and splice.

    def readable(self) -> int:
        return len(self.inbox) if self.mark is None else self.mark

    def read(self, size: int) -> bytes:
        data = bytes(self.inbox[:size])
        del self.inbox[:size]
        if self.mark is not None:
            self.mark -= size
        return data

    def write(self, data: bytes, most: int) -> int:
        assert not self.shutdowns, "written after the half-close"
        if self.dead:
            self.raise_error()
        size = min(len(data), self.room - self.outbox, most)
        if size < len(data):
            self.no_space = True
            self.woken |= size == most  # there is room again at once
        if size == 0:
            would_block()
        self.taken += data[:size]
        self.outbox += size
        return size

    def raise_error(self) -> None:
        """Report it once; after that a write is an EPIPE."""
        code, self.error = self.error or errno.EPIPE, 0
        raise OSError(code, os.strerror(code))


@dataclass
class FakePipe:
    """A pipe: ``ends`` are its descriptors that are open."""

    size: int
    ends: set[int]
    content: bytearray = field(default_factory=bytearray)


class Kernel(system.Kernel):
    """Sockets, pipes and the luck of each call; when ``luck`` is used up all calls go well."""

    def __init__(self, luck: list[Luck], rooms: tuple[int, int], header: bytes = b"", pipes: int = 2) -> None:
        super().__init__(READ_SIZE)
        self._luck = iter(luck)
        self.errors = 0  # that calls had by bad luck
        self.resets = 0  # by the far ends
        self.lan = FakeSocket(self, 3, rooms[0])
        self.wan = FakeSocket(self, 4, rooms[1])
        self.peers = {3: self.lan, 4: self.wan}
        self.header = header
        self.pipes: dict[int, FakePipe] = {}
        self._next_fd = 10
        self.pool = Pipes(self, pipes, PIPE_SIZE, MAX_SPARE_PIPES)

    def expected(self, sock: FakeSocket) -> bytes:
        """All that ``sock`` is to be sent, so far."""
        return bytes(self.lan.said) if sock is self.wan else self.header + bytes(self.wan.said)

    def on_shutdown(self, sock: FakeSocket) -> None:
        source = self.lan if sock is self.wan else self.wan
        assert source.fin, "half-closed without an end"
        assert sock.shutdowns == 1, "half-closed twice"
        assert sock.taken == self.expected(sock), "half-closed before all was written"

    def tempt(self, sock: FakeSocket, may_block: bool = True) -> int:
        """Have luck with a call on ``sock``; the answer is how many bytes it may move at most."""
        assert not sock.closes, "used after close"
        kind, value = self._next()
        if kind == "would block" and may_block:
            sock.woken = True  # by the time of the next poll it would not
            would_block()
        if kind == "error":
            self.errors += 1
            if value != errno.EINTR:
                sock.dead = True
            raise OSError(value, os.strerror(value))
        if kind == "part":
            return int(value)
        if kind == "first":
            self.act(value)
        return 1 << 30

    def _next(self) -> Luck:
        return next(self._luck, ("well", None))

    def act(self, action: tuple[str, str, int]) -> None:
        """Do what a far end does."""
        side, verb, size = action
        sock = self.lan if side == "lan" else self.wan
        if verb == "say":
            sock.say(size)
        elif verb == "urgent":
            sock.say(size, urgent=True)
        elif verb == "drain":
            sock.drain(size)
        elif verb == "end":
            sock.end()
        elif verb == "reset":
            sock.reset()
        else:
            sock.woken = True  # an acknowledgement, say

    # The interface of the relay's kernel.

    def receive(self, fd: int) -> int:
        try:
            return self.peers[fd].recv_into(self.buffer)
        except OSError as error:
            return code_of(error)

    def received(self, start: int, end: int) -> bytes:
        return bytes(self.buffer[start:end])

    def forward(self, fd: int, size: int) -> int:
        return self.send(fd, bytes(self.buffer[:size]))

    def send(self, fd: int, data: bytes) -> int:
        try:
            return self.peers[fd].send(data)
        except OSError as error:
            return code_of(error)

    def half_close(self, fd: int) -> int:
        try:
            self.peers[fd].shutdown()
        except OSError as error:
            return code_of(error)
        return 0

    def reset_on_close(self, fd: int) -> None:
        self.peers[fd].linger = True

    def close(self, fd: int) -> None:
        if fd in self.peers:
            self.peers[fd].closes += 1
        else:
            self.pipes[fd].ends.remove(fd)

    def open_pipe(self, size: int) -> int:
        if self._next()[0] in ("would block", "error"):
            return -errno.EMFILE
        ends = (self._next_fd, self._next_fd + 1)
        self._next_fd += 2
        small = self._next()[0] in ("would block", "error")  # over the user's share
        self.pipes[ends[0]] = self.pipes[ends[1]] = FakePipe(READ_SIZE if small else size, set(ends))
        self.pipe_ends = ends
        return 0

    def splice(self, source: int, target: int, size: int) -> int:
        try:
            return self._splice(source, target, size)
        except OSError as error:
            return code_of(error)

    def _splice(self, source: int, target: int, size: int) -> int:
        if target in self.peers:
            pipe, sock = self.pipes[source], self.peers[target]
            assert source in pipe.ends
            assert 0 < size <= len(pipe.content)
            moved = sock.write(bytes(pipe.content[:size]), self.tempt(sock))
            del pipe.content[:moved]
            return moved
        pipe, sock = self.pipes[target], self.peers[source]
        assert target in pipe.ends
        most = self.tempt(sock)
        if sock.readable() == 0:
            # At an urgent byte splice sees no bytes at all: it tells nothing, or an end if one is behind.
            if sock.fin:
                return 0
            if sock.error:
                sock.raise_error()
            if sock.dead:
                return 0
            would_block()
        moved = min(size, sock.readable(), pipe.size - len(pipe.content), most)
        if moved == 0:
            would_block()
        pipe.content += sock.read(moved)
        return moved


# -- the loop --------------------------------------------------------------------------------------


class Ends(relay.Registry):
    """Remembers how sessions ended."""

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = reasons

    def ended(self, session: Session, reason: str) -> None:
        self.reasons.append(reason)


class Loop:
    """What a worker does of its loop, with one session in it."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.ended: list[str] = []
        self.table = loops.Loop(kernel)
        self.context = RelayContext(self.table, kernel.pool, MAX_TURN)
        self.context.registry = Ends(self.ended)
        self.session = Session(7, "tcp", bytes(36), "192.0.2.1", 0.0)
        self.lan, self.wan = relay.join(self.context, kernel.lan.fd, kernel.wan.fd, self.session)
        self.legs = {leg.fd: leg for leg in (self.lan, self.wan)}
        if kernel.header:
            self.wan.pending = kernel.header
            self.wan.pump(EPOLLRDHUP)
            self.table.close_buried()

    def round(self, backwards: bool = False) -> bool:
        """One turn of the loop; False when there was nothing to do."""
        context = self.context
        woken = [sock for sock in self.kernel.peers.values() if sock.woken and not sock.closes]
        events = []
        for sock in reversed(woken) if backwards else woken:
            sock.woken = False
            if mask := sock.poll():
                events.append((sock.fd, mask))
        busy = bool(events or context.again)
        context.resume()
        for fd, mask in events:
            if not self.legs[fd].closed:
                self.legs[fd].on_event(mask)
        self.table.close_buried()
        self.check()
        return busy

    def settle(self) -> None:
        """Turn until no event is left."""
        for _ in range(MAX_ROUNDS):
            if not self.round():
                return
        raise AssertionError("the loop spins")

    # What holds after each turn.

    def check(self) -> None:
        kernel = self.kernel
        for sock in (kernel.lan, kernel.wan):
            assert kernel.expected(sock).startswith(sock.taken), "lost, doubled or out of order"
            assert sock.closes == len(self.ended), "closed by halves, or again"
        assert self.session.to_wan == len(kernel.wan.taken)
        assert self.session.to_lan == len(kernel.lan.taken)
        assert len(self.ended) <= 1
        assert bool(self.ended) == (7 not in self.context.legs)
        if kernel.errors:
            assert self.ended == ["reset"], "an error that ended nothing"
        held = [(leg.from_pipe, leg.into_pipe) for leg in (self.lan, self.wan) if leg.from_pipe >= 0]
        spare = kernel.pool.spare
        fds = [fd for ends in held + spare for fd in ends]
        assert len(fds) == len(set(fds)), "a pipe in two places"
        assert {fd for fd, pipe in kernel.pipes.items() if fd in pipe.ends} == set(fds), "a pipe leaked"
        assert kernel.pool.made == len(held) + len(spare) <= kernel.pool.limit
        assert len(spare) <= MAX_SPARE_PIPES
        assert not any(kernel.pipes[ends[0]].content for ends in spare), "a spare pipe has bytes in it"
        if self.ended:
            assert not held
            reset = self.ended != ["closed"]
            assert (kernel.lan.linger, kernel.wan.linger) == (reset, reset)
            assert not (self.lan.pending or self.wan.pending)

    # What holds once no event is left.

    def check_settled(self) -> None:
        kernel = self.kernel
        if self.ended:
            return
        assert not kernel.resets, "a reset was not passed on"
        for source, target in ((kernel.lan, kernel.wan), (kernel.wan, kernel.lan)):
            if target.taken != kernel.expected(target):
                assert not target.writable(), "bytes are stuck"
            else:
                assert target.shutdowns == source.fin, "an end is stuck"
        assert not (kernel.lan.fin and kernel.wan.fin and kernel.lan.shutdowns and kernel.wan.shutdowns)

    def finish(self) -> None:
        """The far ends read all, then say all they have to say."""
        kernel = self.kernel
        while True:
            self.settle()
            self.check_settled()
            if not (kernel.lan.outbox or kernel.wan.outbox):
                return
            kernel.lan.drain(1 << 30)
            kernel.wan.drain(1 << 30)


# -- properties ------------------------------------------------------------------------------------

SIDES = st.sampled_from(["lan", "wan"])
SIZES = st.one_of(st.integers(1, READ_SIZE), st.sampled_from([READ_SIZE, 2 * READ_SIZE, 5 * READ_SIZE, 200]))
TALK = st.tuples(SIDES, st.sampled_from(["say", "say", "drain", "drain", "urgent", "end", "wake"]), SIZES)
ANY = st.one_of(TALK, TALK, TALK, st.tuples(SIDES, st.just("reset"), st.just(0)))
# The errors of a call. EINTR never leaves Python's own wrappers (PEP 475); were one to, it is an error
# as any other.
ERRORS = st.sampled_from([errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.EINTR])
ROOMS = st.tuples(*[st.sampled_from([1, 5, READ_SIZE, 30, 100, 1000])] * 2)
HEADERS = st.sampled_from([b"", b"", b"PROXY header"])


def luck_of(
    actions: st.SearchStrategy[Any], *others: st.SearchStrategy[Luck]
) -> st.SearchStrategy[list[Luck]]:
    """Strategies of luck, with ``actions`` as what a far end may do just before a call."""
    return st.lists(
        st.one_of(
            st.just(("well", None)),
            st.just(("would block", None)),
            st.tuples(st.just("part"), st.integers(1, 9)),
            st.tuples(st.just("first"), actions),
            *others,
        ),
        max_size=24,
    )


def turns(actions: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Scripts: actions of the far ends, and turns of the loop, forwards (False) or backwards (True)."""
    return st.lists(st.one_of(st.booleans(), actions, actions), max_size=24)


def play(kernel: Kernel, script: list[Any]) -> Loop:
    """Run ``script`` on a new session, until nothing moves any more."""
    loop = Loop(kernel)
    for step in script:
        if isinstance(step, bool):
            loop.round(backwards=step)
        else:
            kernel.act(step)
    loop.settle()
    loop.check_settled()
    return loop


@settings(max_examples=400, deadline=None)
@given(turns(TALK), luck_of(TALK), ROOMS, HEADERS, st.integers(0, 2))
def test_every_byte_and_every_end_arrives(
    script: list[Any], luck: list[Luck], rooms: tuple[int, int], header: bytes, pipes: int
) -> None:
    kernel = Kernel(luck, rooms, header, pipes)
    loop = play(kernel, script)
    loop.finish()
    for sock in (kernel.lan, kernel.wan):
        assert sock.taken == kernel.expected(sock)
    kernel.lan.end()
    kernel.wan.end()
    loop.finish()
    assert loop.ended == ["closed"]
    for sock in (kernel.lan, kernel.wan):
        assert sock.taken == kernel.expected(sock)
        assert not sock.inbox  # or close() would be a reset
    assert loop.lan.closed
    assert loop.wan.closed


@settings(max_examples=400, deadline=None)
@given(
    turns(ANY), luck_of(ANY, st.tuples(st.just("error"), ERRORS)), ROOMS, HEADERS, st.integers(0, 2), SIDES
)
def test_a_reset_ends_both_sides(
    script: list[Any], luck: list[Luck], rooms: tuple[int, int], header: bytes, pipes: int, side: str
) -> None:
    kernel = Kernel(luck, rooms, header, pipes)
    loop = play(kernel, script)
    over = bool(loop.ended)
    kernel.act((side, "reset", 0))
    loop.settle()  # though nobody reads what was written
    assert over or loop.ended == ["reset"]
    loop.lan.abort("idle")
    loop.check()
    assert len(loop.ended) == 1


@settings(max_examples=100, deadline=None)
@given(turns(TALK), luck_of(TALK), ROOMS, SIDES)
def test_abort_at_any_moment(script: list[Any], luck: list[Luck], rooms: tuple[int, int], side: str) -> None:
    kernel = Kernel(luck, rooms)
    loop = play(kernel, script)
    reason = loop.ended or ["drained"]
    (loop.lan if side == "lan" else loop.wan).abort("drained")
    loop.table.close_buried()
    loop.check()
    loop.settle()
    assert loop.ended == reason


# -- what the properties found ---------------------------------------------------------------------

WIDE = (10_000, 10_000)


def script_of(*steps: Any, rooms: tuple[int, int] = WIDE) -> Loop:
    """A session after ``steps`` in which no call has bad luck."""
    kernel = Kernel([], rooms)
    return play(kernel, list(steps))


@pytest.mark.parametrize("size", [3, 200], ids=["copied", "spliced"])
def test_a_reset_is_passed_on_while_bytes_wait(size: int) -> None:
    loop = script_of(("lan", "say", size), False, ("lan", "reset", 0), rooms=(1000, 1))
    assert loop.ended == ["reset"]


def test_a_reset_in_one_event_with_the_end_before_it() -> None:
    loop = script_of(("lan", "say", 3), ("lan", "end", 0), ("lan", "reset", 0))
    assert loop.ended == ["reset"]


@pytest.mark.parametrize("before", [0, 3, 200, 203])
@pytest.mark.parametrize("end", [False, True])
def test_bytes_behind_an_urgent_one(before: int, end: bool) -> None:
    steps: list[Any] = [("lan", "say", before)] if before else []
    steps += [("lan", "urgent", 3)] + [("lan", "end", 0)] * end
    loop = script_of(*steps)
    kernel = loop.kernel
    assert kernel.wan.taken == kernel.lan.said
    assert kernel.wan.shutdowns == end


def test_an_urgent_byte_that_comes_while_the_pipe_is_full() -> None:
    kernel = Kernel([], (1000, 2 * READ_SIZE + 4))
    loop = play(kernel, [("lan", "say", 200), False, ("lan", "urgent", 3), False])
    assert loop.lan.in_pipe
    loop.finish()
    assert kernel.wan.taken == kernel.lan.said


@pytest.mark.parametrize("before", [3, 3 * relay.READ_SIZE, 3 * relay.READ_SIZE + 3])
@pytest.mark.parametrize("end", [False, True])
def test_an_urgent_byte_in_the_real_kernel(before: int, end: bool) -> None:
    kernel = system.Kernel(relay.READ_SIZE)

    def pair() -> tuple[socket.socket, int]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            far = socket.create_connection(listener.getsockname(), timeout=2)
            near = listener.accept()[0]
        near.setblocking(False)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        fd = near.detach()
        kernel.adopt(fd)
        return far, fd

    client, lan = pair()
    origin, wan = pair()
    context = RelayContext(loops.Loop(kernel), Pipes(kernel, 2))
    with client, origin, select.epoll() as epoll:
        client.sendall(text(0, before))
        client.send(b"!", socket.MSG_OOB)
        client.sendall(b"behind")
        if end:
            client.shutdown(socket.SHUT_WR)
        origin.setblocking(False)
        legs = {leg.fd: leg for leg in relay.join(context, lan, wan, Session(1, "tcp", bytes(36), "", 0.0))}
        for fd in legs:
            epoll.register(fd, relay.LEG_EVENTS)
        epoll.register(origin.fileno(), EPOLLIN)
        got = b""
        while len(got) < before + 7 or legs[wan].shut < end:
            again = bool(context.again)
            events = epoll.poll(0 if again else 2)
            context.resume()
            for fd, mask in events:
                if fd in legs:
                    legs[fd].on_event(mask)
                else:
                    got += origin.recv(1 << 20)
            if not events and not again:
                break
        assert got == text(0, before) + b"!behind"
        assert legs[wan].shut == end
        for fd in (lan, wan, *(end for pipe in context.pipes.spare for end in pipe)):
            kernel.close(fd)


# -- pipes -----------------------------------------------------------------------------------------


def test_pipes_have_a_limit() -> None:
    kernel = Kernel([], WIDE, pipes=2)
    pipes = kernel.pool
    first, second = pipes.take(), pipes.take()
    assert first is not None
    assert second is not None
    assert pipes.take() is None
    pipes.give(first, empty=True)
    assert pipes.take() == first  # kept, and used again
    pipes.give(first, empty=False)
    assert kernel.pipes[first[0]].ends == set()  # closed: its bytes were somebody's
    third = pipes.take()
    assert third not in (None, first, second)
    assert pipes.take() is None


def test_few_pipes_are_kept() -> None:
    kernel = Kernel([], WIDE, pipes=MAX_SPARE_PIPES + 2)
    pipes = kernel.pool
    taken = [pipe for pipe in iter(pipes.take, None) if pipe is not None]
    assert len(taken) == MAX_SPARE_PIPES + 2
    for pipe in taken:
        pipes.give(pipe, empty=True)
    assert [bool(kernel.pipes[pipe[0]].ends) for pipe in taken] == [True, False, False]
    again = [pipe for pipe in iter(pipes.take, None) if pipe is not None]
    assert len(again) == MAX_SPARE_PIPES + 2


def test_no_descriptor_for_a_pipe() -> None:
    kernel = Kernel([("error", errno.EMFILE)], WIDE, pipes=1)
    assert kernel.pool.take() is None
    assert kernel.pool.take() is not None  # what failed was not counted


def test_a_pipe_that_may_not_be_large_serves() -> None:
    kernel = Kernel([("well", None), ("error", errno.EPERM)], WIDE, pipes=1)
    pipe = kernel.pool.take()
    assert pipe is not None
    assert kernel.pipes[pipe[0]].size == READ_SIZE


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 9), st.booleans())), max_size=40),
    st.integers(0, 4),
)
def test_pipes_are_never_more_than_the_limit(steps: list[tuple[int, bool] | None], limit: int) -> None:
    kernel = Kernel([], WIDE, pipes=limit)
    held: list[tuple[int, int]] = []
    for step in steps:
        if step is None:
            pipe = kernel.pool.take()
            assert (pipe is None) == (len(held) == limit)
            if pipe is not None:
                assert pipe not in held
                held.append(pipe)
        elif held:
            kernel.pool.give(held.pop(step[0] % len(held)), empty=step[1])
        open_fds = {fd for fd, pipe in kernel.pipes.items() if fd in pipe.ends}
        assert {fd for ends in held for fd in ends} <= open_fds
        assert len(open_fds) <= 2 * min(limit, len(held) + MAX_SPARE_PIPES)
