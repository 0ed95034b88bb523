"""The log of sessions in squid's native format, for the programs that read it."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.errors import WIRE, Failure
from appliance.session.follow import Batch
from appliance.session.rotation import Rotation
from appliance.session.row import Outcome, Row

# As of the proxy's own log: large enough that a day of a small network fits, small enough for small disks.
MAX_BYTES = 16 << 20
KEPT = 4
_FAILURES = {failure.value: failure for failure in Failure}
# squid's words: TCP stands for all that is no ICP.
_RESULTS = {
    Outcome.CARRIED: "TCP_TUNNEL",
    Outcome.DENIED: "TCP_DENIED",
    Outcome.REFUSED: "TCP_MISS",
    Outcome.LIMITED: "TCP_DENIED",
    Outcome.FAILED: "TCP_MISS",
}
_METHODS = {"tcp": "CONNECT", "udp": "UDP", "icmp": "PING"}


def _host(host: str, port: int) -> str:
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}" if host else "-"


def squid_line(row: Row) -> str:
    """A line without its end: time, milliseconds, client, result/status, octets to the client, method, URL,
    user, how/where, type. What the privacy level left out is "-".
    """
    if row.outcome is Outcome.CARRIED:
        status = 200
    else:
        failure = _FAILURES.get(row.reason)
        status = WIRE[failure].http if failure is not None else 502
    to = row.name or row.origin
    how = f"HIER_DIRECT/{row.origin}" if row.origin and row.outcome is Outcome.CARRIED else "HIER_NONE/-"
    url = _host(to, row.origin_port)
    return (
        f"{row.time // 1000}.{row.time % 1000:03d} {row.age:6d} {row.client} "
        f"{_RESULTS[row.outcome]}/{status:03d} {row.to_lan} {_METHODS.get(row.kind, 'NONE')} "
        f"{url.replace(' ', '%20')} {row.user or '-'} {how.replace(' ', '%20')} -"
    )


def _time_of(line: bytes) -> float | None:
    try:
        return float(line.partition(b" ")[0])
    except ValueError:
        return None


class SquidFile:
    """An export: a file that is moved away when it is large or a day old."""

    def __init__(self, path: Path, writes: bool = True) -> None:
        """``writes``: without, what is there is kept within its bounds and can be erased, and no more."""
        self._path = path
        self.writes = writes
        self._rotation = Rotation(path, MAX_BYTES, KEPT, _time_of)
        self.sent = 0
        self.dropped = 0
        self.problem = ""

    def write(self, batch: Batch) -> None:
        """Append its lines, whole; where the disk refuses they are counted."""
        if not (batch.rows and self.writes):
            return
        text = "".join(f"{squid_line(row)}\n" for row in batch.rows)
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            try:
                before = os.fstat(file).st_size
                data = text.encode()
                if os.write(file, data) != len(data):
                    os.ftruncate(file, before)  # the disk is full: no halves of lines
                    raise OSError(28, "no space left")
            finally:
                os.close(file)
            self.sent += len(batch.rows)
            self.problem = ""
        except OSError as error:
            self.dropped += len(batch.rows)
            self.problem = f"{self._path} cannot be written: {error.strerror or error}."

    def forget(self, oldest: float, now: float) -> None:
        """Keep it within its bounds."""
        try:
            if self._rotation.is_due(now):
                self._rotation.move()
            self._rotation.forget(oldest)
        except OSError:
            pass  # there is none yet, or the disk refuses: ``write`` says so

    def erase(self) -> None:
        """Forget what was written."""
        self._rotation.erase()

    def describe(self) -> dict[str, object]:
        """The varlink type ``Export`` of org.isthmus.history."""
        return {
            "kind": "squid",
            "target": str(self._path),
            "up": not self.problem,
            "waiting": 0,
            "sent": self.sent,
            "dropped": self.dropped,
            "problem": self.problem or None,
        }
