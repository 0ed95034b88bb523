"""A kernel whose network and clock the test makes: connects end as scripted, sleeping moves the clock."""

from __future__ import annotations

import errno
import heapq
from ipaddress import ip_address
from typing import Any

from appliance.config.schema import Config
from appliance.proxy import kernel as system
from appliance.proxy.context import Context
from appliance.proxy.relay import EPOLLERR, EPOLLHUP, EPOLLOUT
from appliance.proxy.tally import Tally, shared_words
from appliance.session.log import Log

START = 1_000.0
FIRST_FD = 500  # no real descriptor has so high a number here


class Kernel(system.Kernel):
    """``hosts``: by address, what a connect() to it comes to: (seconds, errno), 0 for connected.

    At 0 seconds an errno is connect()'s own; at infinity nobody answers, as for every other address.
    """

    def __init__(self, hosts: dict[str, tuple[float, int]] | None = None) -> None:
        super().__init__(16)
        self.now = self.time = START
        self.hosts = {ip_address(text).packed: fate for text, fate in (hosts or {}).items()}
        self.dialled: list[tuple[float, str, int, bytes, bytes]] = []  # since START, where, how
        self.open: dict[int, str] = {}
        self.resets: list[str] = []
        self.closed: list[str] = []
        self._fd = FIRST_FD
        self._to_come: list[tuple[float, int, int]] = []  # when, descriptor, errno
        self._errors: dict[int, int] = {}
        self._watched: set[int] = set()
        self._batch: list[tuple[int, int]] = []

    def clock(self) -> float:
        return self.time

    def watch(self, fd: int, events: int) -> int:
        self._watched.add(fd)
        return 0

    def ignore(self, fd: int) -> int:
        self._watched.discard(fd)
        return 0

    def wait(self, seconds: float) -> int:
        until = self.time + seconds
        if self._to_come and self._to_come[0][0] <= until:
            until = max(self._to_come[0][0], self.time)
        self.time = self.now = until
        self._batch = []
        while self._to_come and self._to_come[0][0] <= self.time:
            _, fd, code = heapq.heappop(self._to_come)
            if fd in self.open and fd in self._watched:
                self._errors[fd] = code
                self._batch.append((fd, EPOLLOUT | (EPOLLERR | EPOLLHUP if code else 0)))
        return len(self._batch)

    def event_fd(self, index: int) -> int:
        return self._batch[index][0]

    def event_mask(self, index: int) -> int:
        return self._batch[index][1]

    def error_of(self, fd: int) -> int:
        return self._errors.pop(fd, 0)

    def dial(self, address: bytes, port: int, device: bytes, source: bytes) -> int:
        text = str(ip_address(address))
        self.dialled.append((round(self.time - START, 6), text, port, device, source))
        seconds, code = self.hosts.get(address, (float("inf"), errno.ETIMEDOUT))
        if seconds == 0 and code:
            return -code
        self._fd += 1
        self.open[self._fd] = text
        if seconds != float("inf"):
            heapq.heappush(self._to_come, (self.time + seconds, self._fd, code))
        return self._fd

    def reset_on_close(self, fd: int) -> None:
        self.resets.append(self.open[fd])

    def close(self, fd: int) -> None:
        self.closed.append(self.open.pop(fd))
        self._watched.discard(fd)


class World(Context):
    """A worker's context over such a kernel; ``own`` are the box's addresses."""

    def __init__(
        self, kernel: Kernel, config: dict[str, Any] | None = None, own: tuple[str, ...] = ()
    ) -> None:
        super().__init__(kernel, Config.model_validate(config or {}), -1, Log(None, 0), Tally(shared_words()))
        self.own = {str(ip_address(text)) for text in own}
        self.descriptor_limit = 100_000
        self.configure(self.config, 1_000)

    def is_own(self, origin: str) -> bool:
        return origin in self.own

    def turn(self, seconds: float) -> None:
        """One batch of the loop."""
        self.dispatch(self.wait(seconds))
        self.close_buried()

    def run(self, seconds: float) -> None:
        """Batches for so long."""
        until = self.kernel.clock() + seconds
        while self.kernel.clock() < until:
            self.turn(until - self.kernel.clock())
