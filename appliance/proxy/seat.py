"""What a worker works with, as the supervisor keeps it: the seat (TUN, listeners), the process on it."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from socket import send_fds, socket
from typing import Any

from appliance.proxy.tally import UNTOLD
from appliance.proxy.tun import has_tun, open_from_clients, open_from_origins, open_listener, open_tun

# How long a worker may take to answer; it serves thousands of sessions meanwhile.
ANSWER_TIMEOUT = 1.0
# And to take a configuration up, after which it is ended, with its sessions: a slow box at its start takes
# two seconds. All of them together take no longer, and control waits for it (PROXY_TIMEOUT).
TAKE_UP_TIMEOUT = 4.0
MAX_ANSWER = 16 << 20
# A worker that dies this soon after its start waits before the next try, doubling up to the maximum.
QUICK_DEATH = 1.0
FIRST_PAUSE = 0.05
MAX_PAUSE = 5.0


class Process:
    """A running worker: ``line`` carries JSON lines both ways; ``place`` is its own in the tally."""

    def __init__(self, index: int, pid: int, line: socket, started: float, place: int = UNTOLD) -> None:
        self.index = index
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.line = line
        self.started = started  # seconds since the epoch
        self.place = place
        self._asked = 0  # the number of the question that was put last

    def ask(self, question: dict[str, Any], descriptor: int | None = None) -> dict[str, Any] | None:
        """The worker's answer, or None when it does not give one in time."""
        return self.hear() if self.tell(question, descriptor) else None

    def tell(self, question: dict[str, Any], descriptor: int | None = None) -> bool:
        """Put a question; False where the worker does not take it in time."""
        self._asked = time.monotonic_ns()  # never twice, over programs too
        try:
            self.line.settimeout(ANSWER_TIMEOUT)
            data = json.dumps({**question, "asked": self._asked}).encode() + b"\n"
            sent = send_fds(self.line, [data], [] if descriptor is None else [descriptor])
            self.line.sendall(data[sent:])
        except OSError:
            return False
        return True

    def hear(self, seconds: float = ANSWER_TIMEOUT) -> dict[str, Any] | None:
        """The answer to the question that was put last, or None when there is none in that time.

        What comes late to one before it, or in part, is dropped.
        """
        held = b""
        deadline = time.monotonic() + seconds
        while len(held) <= MAX_ANSWER:
            try:
                self.line.settimeout(max(deadline - time.monotonic(), 0.01))
                data = self.line.recv(1 << 20)
            except OSError:
                return None
            if not data:
                return None
            held += data
            if data.endswith(b"\n"):
                for line in held.split(b"\n"):
                    found = _answer(line)
                    # a worker of a program before this one says no number
                    if found is not None and found.pop("answers", self._asked) == self._asked:
                        return found
                held = b""
        return None

    def close(self) -> None:
        """Let go of the process; without its line it ends."""
        os.close(self.pidfd)
        self.line.close()

    def as_heirloom(self) -> dict[str, Any]:
        """What the next program needs of it; the line survives the exec."""
        os.set_inheritable(self.line.fileno(), True)
        return {"index": self.index, "pid": self.pid, "line": self.line.fileno(), "started": self.started}

    @classmethod
    def from_heirloom(cls, found: dict[str, Any]) -> Process:
        """The process again, after the exec."""
        os.set_inheritable(found["line"], False)
        return cls(found["index"], found["pid"], socket(fileno=found["line"]), found["started"])


def _answer(line: bytes) -> dict[str, Any] | None:
    """None for what is left of an answer that was broken off, and for an empty line."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


NO_TUN = -1  # in place of a seat's descriptor


class Seat:
    """A worker's place: its devices, which outlive it, and who sits there now.

    ``listener`` is for TCP; UDP's are ``from_clients`` and ``from_origins``.
    """

    def __init__(
        self, index: int, tun: int, listener: socket, from_clients: socket, from_origins: socket
    ) -> None:
        self.index = index
        self.tun = tun
        self.listener = listener
        self.from_clients = from_clients
        self.from_origins = from_origins
        self.process: Process | None = None
        self.restarts = 0
        self.start_at = 0.0  # monotonic; not before this
        self._pause = FIRST_PAUSE

    @classmethod
    def open(cls, index: int) -> Seat:
        """A new seat; DataplaneError where control has not built it.

        Where the kernel has no TUN devices it is one without: its worker accepts first.
        """
        with ExitStack() as undo:
            tun = NO_TUN
            if has_tun():
                tun = open_tun(index)
                undo.callback(os.close, tun)
            listener = undo.enter_context(open_listener(index))
            from_clients = undo.enter_context(open_from_clients(index))
            seat = cls(index, tun, listener, from_clients, open_from_origins(index))
            undo.pop_all()
            return seat

    def vacate(self) -> None:
        """The process died: when may the next one start?"""
        assert self.process is not None
        quick = time.time() - self.process.started < QUICK_DEATH
        self._pause = min(self._pause * 2, MAX_PAUSE) if quick else FIRST_PAUSE
        self.start_at = time.monotonic() + (self._pause if quick else 0.0)
        self.restarts += 1
        self.process.close()
        self.process = None

    def close(self) -> None:
        """Give the seat up; a worker that drains has its own copies of the descriptors."""
        if self.tun != NO_TUN:
            os.close(self.tun)
        for sock in (self.listener, self.from_clients, self.from_origins):
            sock.close()

    def as_heirloom(self) -> dict[str, Any]:
        """What the next program needs of it; the descriptors survive the exec."""
        descriptors = {
            "tun": self.tun,
            "listener": self.listener.fileno(),
            "from_clients": self.from_clients.fileno(),
            "from_origins": self.from_origins.fileno(),
        }
        for fd in descriptors.values():
            if fd != NO_TUN:
                os.set_inheritable(fd, True)
        return {
            "index": self.index,
            **descriptors,
            "restarts": self.restarts,
            "process": self.process and self.process.as_heirloom(),
        }

    @classmethod
    def from_heirloom(cls, found: dict[str, Any]) -> Seat:
        """The seat again, after the exec."""
        names = ("listener", "from_clients", "from_origins")
        for fd in (found["tun"], *(found[name] for name in names)):
            if fd != NO_TUN:
                os.set_inheritable(fd, False)
        seat = cls(found["index"], found["tun"], *(socket(fileno=found[name]) for name in names))
        seat.restarts = found["restarts"]
        if found["process"] is not None:
            seat.process = Process.from_heirloom(found["process"])
        return seat
