"""The loop of a worker: descriptors, and who hears of them; and timers finer than a second.

``context.timers`` is for what lives long and is many: it costs nothing to move. The timers here are for short
waits that mostly end before their time, and are exact to the millisecond.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from select import EPOLLIN
from socket import socket

from appliance.proxy.kernel import Kernel

# Cancelled timers stay in the heap until they are due, or until they are so many and half of it. Fewer would
# have it swept for each handful, more would hold memory for what is over.
MAX_CANCELLED = 1_024
# Of one process. Fewer would let whoever finds a mistake end the worker, more hides one that nothing mends.
MAX_FAULTS = 1_000


class Handler:
    """Something that owns a descriptor. The base class of all that hears of events."""

    __slots__ = ()

    def on_event(self, events: int) -> None:
        """What epoll reports of it."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Memory ran out, or a fault was met, in the middle of ``on_event``: all may be half done."""

    def kill(self, session: object, reason: str) -> bool:
        """End the session with a reset, where it is one of this handler's; False where it is none.

        ``reason``: the log's word for that.
        """
        return False


class Timer(Handler):
    """One call to come, from ``Loop.at``. When memory runs out in a handler's method, that one is told."""

    __slots__ = ("action", "loop")

    def __init__(self, loop: Loop, action: Callable[[], object]) -> None:
        self.loop = loop
        self.action: Callable[[], object] | None = action  # None: called, or cancelled

    def cancel(self) -> None:
        """Call nothing. Without effect when that is done already."""
        if self.action is not None:
            self.action = None
            self.loop.forget_one()


def _owner(timer: Timer, action: object) -> Handler:
    """Who is told of what befell a call."""
    owner = getattr(action, "__self__", None)
    return owner if isinstance(owner, Handler) else timer


class Loop:
    """Waits for events and passes them on. ``now``: monotonic seconds, fresh once for each batch."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.now = kernel.now
        self.faults = 0  # of ours, in handlers
        self._handlers: list[Handler | None] = [None] * 1024  # by descriptor; it grows
        self._graves: list[int] = []
        self._sockets: list[socket] = []
        self._later: list[Handler] = []
        self._timers: list[tuple[float, int, Timer]] = []  # a heap: due, number, what
        self._number = 0  # of the last timer: those of the same moment are called in their order
        self._cancelled = 0  # of the heap's

    def later(self, handler: Handler) -> None:
        """Ask it to read on in the next batch: its turn is over, though there may be more."""
        self._later.append(handler)

    def watch(self, fd: int, handler: Handler, events: int) -> None:
        """Hear of ``events`` on ``fd``; OSError where the kernel has no room for it."""
        code = self.kernel.watch(fd, events)
        if code < 0:
            raise OSError(-code, os.strerror(-code))
        self.hand_to(fd, handler)

    def hand_to(self, fd: int, handler: Handler | None) -> None:
        """Let another hear of what is watched already; None: nobody."""
        while fd >= len(self._handlers):
            self._handlers.extend([None] * 1024)
        self._handlers[fd] = handler

    def ignore(self, fd: int) -> None:
        """Hear no more of ``fd``, which stays open, here or with another process."""
        if fd < len(self._handlers) and self._handlers[fd] is not None:
            self._handlers[fd] = None
            self.kernel.ignore(fd)

    def kill(self, session: object, reason: str) -> bool:
        """Have whoever carries the session end it; False where nobody does. Every handler is asked."""
        return any(handler.kill(session, reason) for handler in list(self._handlers) if handler is not None)

    def bury(self, fd: int, sock: socket | None = None) -> None:
        """Forget the descriptor now, close it after this batch of events; ``sock`` where an object has it.

        Closed at once, its number could be given to a new socket while this batch still holds an
        event of the old one.
        """
        if fd < len(self._handlers):
            self._handlers[fd] = None
        if sock is None:
            self._graves.append(fd)
        else:
            self._sockets.append(sock)

    def wait(self, seconds: float) -> int:
        """Wait at most so long, or to the next timer, for a batch of events; how many there are."""
        timers = self._timers
        while timers and timers[0][2].action is None:
            heappop(timers)
            self._cancelled -= 1
        if timers:
            seconds = min(seconds, timers[0][0] - self.kernel.clock())
        count = self.kernel.wait(0.0 if self._later else max(seconds, 0.0))
        self.now = self.kernel.now
        return count

    def dispatch(self, count: int) -> None:
        """Pass the batch on."""
        kernel = self.kernel
        handlers = self._handlers
        if self._later:
            later, self._later = self._later, []
            for reader in later:
                try:
                    reader.on_event(EPOLLIN)
                except MemoryError:
                    self.out_of_memory(reader)
                except Exception:
                    self.fault(reader)
        for index in range(count):
            handler = handlers[kernel.event_fd(index)]
            if handler is not None:
                try:
                    handler.on_event(kernel.event_mask(index))
                except MemoryError:
                    self.out_of_memory(handler)
                except Exception:
                    self.fault(handler)
        if self._timers:
            self._call_due()

    def out_of_memory(self, handler: Handler) -> None:
        """One handler ran out of memory; the others go on."""
        handler.abandon()

    def fault(self, handler: Handler) -> None:
        """A mistake of ours has met one handler, while its exception is handled: the others go on.

        All sessions of a worker would end with it otherwise, which makes of each such mistake a way to end
        others' sessions. Of too many something is wrong that only a new worker mends: it is raised again.
        """
        self.faults += 1
        if self.faults > MAX_FAULTS:
            raise
        traceback.print_exc()
        handler.abandon()

    # -- timers --------------------------------------------------------------------------------

    def at(self, seconds: float, action: Callable[[], object]) -> Timer:
        """Call ``action`` so many seconds after ``now``, at the end of a batch; never before this returns."""
        timer = Timer(self, action)
        self._number += 1
        heappush(self._timers, (self.now + seconds, self._number, timer))
        return timer

    def _call_due(self) -> None:
        """What happened in a batch counts before what would have happened without it."""
        timers = self._timers
        now = self.now
        last = self._number  # those that are made meanwhile wait for the next batch
        while timers and timers[0][0] <= now and timers[0][1] <= last:
            timer = heappop(timers)[2]
            action = timer.action
            if action is None:
                self._cancelled -= 1
            else:
                timer.action = None
                try:
                    action()
                except MemoryError:
                    self.out_of_memory(_owner(timer, action))
                except Exception:
                    self.fault(_owner(timer, action))

    def forget_one(self) -> None:
        """A timer of the heap was cancelled."""
        self._cancelled += 1
        if self._cancelled > MAX_CANCELLED and 2 * self._cancelled > len(self._timers):
            self._timers[:] = [entry for entry in self._timers if entry[2].action is not None]
            heapify(self._timers)
            self._cancelled = 0

    def close_buried(self) -> None:
        """End of a batch."""
        if self._graves:
            for fd in self._graves:
                self.kernel.close(fd)
            self._graves.clear()
        if self._sockets:
            for sock in self._sockets:
                sock.close()
            self._sockets.clear()
