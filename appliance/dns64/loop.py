"""One epoll loop with timers."""

from __future__ import annotations

import heapq
import itertools
import select
import time
import traceback
from collections.abc import Callable

Handler = Callable[[int], None]  # the epoll events

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
# Of one process. Fewer would let whoever finds a mistake end the resolver, more hides one that nothing mends.
MAX_FAULTS = 1_000
_IDLE_WAIT = 1.0  # seconds; the clock that the cache reads is never staler than this


class Timer:
    """One call in the future; ``cancel`` it as often as you like."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Never call it."""
        self.action = None


class Loop:
    """Descriptors with their handlers, and timers. ``now`` is monotonic seconds, set once a turn."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._running = True
        self.faults = 0
        self.now = time.monotonic()

    def add(self, fd: int, events: int, handler: Handler) -> None:
        """Call ``handler`` with the events of ``fd``."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Wait for other events."""
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forget ``fd``; before it is closed."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Call ``action`` once, later."""
        timer = Timer(action)
        heapq.heappush(self._timers, (self.now + seconds, next(self._order), timer))
        return timer

    def stop(self) -> None:
        """Let ``run`` return after this turn."""
        self._running = False

    def run(self) -> None:
        """Serve until ``stop``."""
        timers = self._timers
        while self._running:
            wait = _IDLE_WAIT
            if timers:
                wait = min(max(timers[0][0] - time.monotonic(), 0.0), _IDLE_WAIT)
            ready = self._epoll.poll(wait)
            self.now = time.monotonic()
            for fd, events in ready:
                handler = self._handlers.get(fd)
                if handler is not None:  # else closed by an earlier handler of this turn
                    try:
                        handler(events)
                    except Exception:
                        self._fault()
            while timers and timers[0][0] <= self.now:
                action = heapq.heappop(timers)[2].action
                if action is not None:
                    try:
                        action()
                    except Exception:
                        self._fault()

    def _fault(self) -> None:
        """A mistake of ours, while its exception is handled: it costs one question, and not everybody's.

        Of too many something is wrong that only a new start mends: it is raised again.
        """
        self.faults += 1
        if self.faults > MAX_FAULTS:
            raise
        traceback.print_exc()

    def close(self) -> None:
        """Free the epoll descriptor."""
        self._epoll.close()
