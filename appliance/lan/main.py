"""isthmus-lan: the entry point of the daemon that listens on the LANs' links."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path

from appliance.files import show
from appliance.host import device_index
from appliance.lan.listener import Listener
from appliance.lan.settings import FILE, Link, read
from appliance.lan.strangers import Strangers

# Seconds between two looks at the file and the devices. A new LAN waits so long for its first answer, and a
# client asks again after one second.
TICK = 1.0
STATUS = "status.json"
# It is written anew so often, changed or not: by its age control tells that this daemon is alive.
HEARTBEAT = 10.0


class Daemon:
    """The LANs' listeners, and what is shown of them."""

    def __init__(self, runtime: Path) -> None:
        self._file = runtime / FILE
        self._status = runtime / "lan" / STATUS
        self._stamp: tuple[int, int] | None = None
        self._links: tuple[Link, ...] = ()
        self._listeners: dict[str, Listener] = {}
        self._strangers = Strangers()
        self._shown = ""
        self._shown_at = 0.0
        self._problem = ""

    def run(self, stop: int) -> None:
        """Until ``stop`` can be read."""
        while True:
            now = time.monotonic()
            self._follow(now)
            by_fd = {}
            for one in self._listeners.values():
                by_fd[one.routers.fileno()] = (one, self._hear)
                by_fd[one.questions.fileno()] = (one, self._answer)
            ready = select.select([stop, *by_fd], [], [], self._next(now))[0]
            if stop in ready:
                return
            for fd in ready:
                listener, take = by_fd[fd]
                try:
                    take(listener, time.monotonic())
                except BlockingIOError:
                    pass  # the kernel thought better of it: a checksum was wrong
                except OSError:  # the device went
                    self._leave(listener.link.name)

    def _next(self, now: float) -> float:
        """Seconds to wait at most."""
        due = [one.schedule.due for one in self._listeners.values() if one.schedule is not None]
        return max(0.0, min([now + TICK, *due]) - now)

    def _follow(self, now: float) -> None:
        """Take up a new file, and devices that came or went."""
        try:
            found = self._file.stat()
            stamp = found.st_ino, found.st_mtime_ns
            if stamp != self._stamp:
                self._links, self._stamp = read(self._file), stamp
                self._say("")
        except (OSError, ValueError) as error:
            self._say(str(error))
        wanted = {link.name: link for link in self._links}
        for name, listener in list(self._listeners.items()):
            if wanted.get(name) != listener.link or listener.index != device_index(listener.link.device):
                self._leave(name)
        for name, link in wanted.items():
            if name not in self._listeners and device_index(link.device):
                try:
                    self._listeners[name] = Listener(link, now)
                except OSError as error:
                    self._say(f"{link.device}: {error.strerror}")
        for listener in self._listeners.values():
            listener.advertise(now)
        self._strangers.keep(set(wanted), now)
        self._show(now)

    def _leave(self, name: str) -> None:
        with contextlib.suppress(KeyError):
            self._listeners.pop(name).close()

    def _hear(self, listener: Listener, now: float) -> None:
        heard = listener.hear(now)
        if heard is not None:
            router, said = heard
            if self._strangers.heard(listener.link.name, router, said, now):
                prefixes = ", ".join(map(str, said.prefixes)) or "no prefix"
                print(
                    f"isthmus-lan: {listener.link.name}: {router} ({said.mac}) advertises {prefixes}",
                    file=sys.stderr, flush=True,
                )  # fmt: skip

    @staticmethod
    def _answer(listener: Listener, now: float) -> None:
        listener.answer(now)

    def _show(self, now: float) -> None:
        text = json.dumps({"strangers": self._strangers.plain()}, indent=1) + "\n"
        if text == self._shown and now < self._shown_at + HEARTBEAT:
            return
        try:
            show(self._status, text)
            self._shown, self._shown_at = text, now
        except OSError as error:
            self._say(f"{self._status} cannot be written: {error.strerror}")

    def _say(self, problem: str) -> None:
        if problem and problem != self._problem:
            print(f"isthmus-lan: {problem}", file=sys.stderr, flush=True)
        self._problem = problem


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Exit status: 0, 2 arguments."""
    parser = argparse.ArgumentParser(
        prog="isthmus-lan",
        description="Answers the DHCPv6 questions of the LANs' hosts (no addresses), tells them the MTU, "
        "and listens for other routers that advertise themselves there.",
    )
    parser.add_argument(
        "--runtime",
        type=Path,
        default=Path("/run/isthmus"),
        metavar="DIR",
        help=f"the daemons' common folder: {FILE} is read, lan/{STATUS} is written (default: %(default)s)",
    )
    options = parser.parse_args(argv)
    os.umask(0o027)
    (options.runtime / "lan").mkdir(mode=0o750, exist_ok=True)
    stop, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    print("isthmus-lan: ready", file=sys.stderr, flush=True)
    Daemon(options.runtime).run(stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
