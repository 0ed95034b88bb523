"""The log of sessions: a line of JSON for each that ended or did not come about."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from appliance.session.record import Session

# Lines that wait for the disk; more are dropped and counted rather than stop the traffic.
MAX_BACKLOG = 4 << 20
# What a line about a session that did not come about may say where destinations are not written down.
_OF_THE_CLIENT = (
    "kind",
    "refused",
    "client",
    "client_port",
    "service",
    "user",
    "device",
    "rule",
    "reference",
)


class Log:
    """JSON lines, written once a tick, appended whole, so that several workers may share a file."""

    def __init__(self, path: Path | None, worker: int) -> None:
        self._path = path
        self._worker = worker
        self._lines: list[str] = []
        self._size = 0
        self._fd = -1
        self._epoch = time.time() - time.monotonic()  # what to add to a monotonic second
        self._writes = True
        self._destinations = True
        self._torn = False  # the disk took the last line by half
        self.dropped = 0
        self.reopen()

    def configure(self, privacy: str) -> None:
        """How much is written down, in the configuration's words: "full", "no-destinations", "counters"."""
        self._writes = privacy != "counters"
        self._destinations = privacy == "full"

    def reopen(self) -> None:
        """Open the file anew, after it was moved away."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._torn = False
        if self._path is not None:
            try:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            except OSError:
                self._fd = -1  # a broken disk costs the log, never the traffic

    def refused(self, entry: dict[str, Any]) -> None:
        """A session that did not come about."""
        if not self._writes:
            return
        if not self._destinations:
            entry = {key: entry[key] for key in _OF_THE_CLIENT if key in entry}
        entry["time"] = round(time.time(), 3)
        entry["worker"] = self._worker
        self._add(json.dumps(entry, separators=(",", ":")))

    def ended(self, session: Session, reason: str, now: float) -> None:
        """A session that is over; ``now``: monotonic seconds."""
        if self._writes:
            self._add(session.log_line(self._worker, now, now + self._epoch, reason, self._destinations))

    def _add(self, line: str) -> None:
        if self._fd < 0:
            self.dropped += 1
            return
        self._size += len(line)
        if self._size > MAX_BACKLOG:
            self.dropped += 1
            self._size -= len(line)
        else:
            self._lines.append(line)

    def flush(self) -> None:
        """Write what has gathered."""
        self._epoch = time.time() - time.monotonic()  # the clock may have been set
        if self._lines and self._fd >= 0:
            # After half a line the next one begins its own, or both are lost.
            data = ("\n" * self._torn + "\n".join(self._lines) + "\n").encode()
            try:
                written = os.write(self._fd, data)
            except OSError:
                written = 0
            if written < len(data):
                self.dropped += data[written:].count(b"\n") - (self._torn and not written)
            if written:
                self._torn = data[written - 1 : written] != b"\n"
        self._lines.clear()
        self._size = 0
