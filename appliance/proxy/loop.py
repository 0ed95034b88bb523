"""The loop of a worker: descriptors, and who hears of them."""

from __future__ import annotations

import os
from select import EPOLLIN
from socket import socket

from appliance.proxy.kernel import Kernel


class Handler:
    """Something that owns a descriptor. The base class of all that hears of events."""

    __slots__ = ()

    def on_event(self, events: int) -> None:
        """What epoll reports of it."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Memory ran out in the middle of ``on_event``: what it was doing may be half done."""


class Loop:
    """Waits for events and passes them on. ``now``: monotonic seconds, fresh once for each batch."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.now = kernel.now
        self._handlers: list[Handler | None] = [None] * 1024  # by descriptor; it grows
        self._graves: list[int] = []
        self._sockets: list[socket] = []
        self._later: list[Handler] = []

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
        """Wait at most so long for a batch of events; how many there are."""
        count = self.kernel.wait(0.0 if self._later else seconds)
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
        for index in range(count):
            handler = handlers[kernel.event_fd(index)]
            if handler is not None:
                try:
                    handler.on_event(kernel.event_mask(index))
                except MemoryError:
                    self.out_of_memory(handler)

    def out_of_memory(self, handler: Handler) -> None:
        """One handler ran out of memory; the others go on."""
        handler.abandon()

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
