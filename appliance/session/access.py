"""Requests for access: what clients of the proxy have asked for at a page that denied them something.

One small file, written whole and put in the old one's place, since requests are few and each is to outlive a
restart. Workers add, the supervisor lists and removes for control; a lock beside it keeps them apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from appliance.files import whole

FILE = "access-requests.json"
# Requests that wait for an answer. More than a page would hold, and one client's share of it: a house that
# asks for everything is to leave others room.
MAX_REQUESTS = 200
MAX_PER_CLIENT = 10
# Octets of what may be said with one. Longer is no note, and the file stays below a MiB whatever is said.
MAX_NOTE = 500
# Seconds until a request that nobody has answered is forgotten. Longer, and it grants what nobody wants now.
EXPIRES = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """``id``: the reference of the denial. ``time``: seconds since 1970. Texts are empty where not known."""

    id: str
    client: str
    user: str
    device: str
    host: str
    port: int
    rule: str
    note: str
    time: float

    @property
    def who(self) -> str:
        """Whose it is: by the surest of what is known."""
        return self.user or self.device or self.client


class Taken(Enum):
    """What became of a request."""

    YES = "taken"
    ALREADY = "already asked for"
    FULL = "too many wait"


_TYPES = {field.name: field.type for field in fields(AccessRequest)}


def _read(path: Path) -> list[AccessRequest]:
    """What the file holds; nothing where it is none of ours."""
    try:
        found = json.loads(path.read_text())
        return [AccessRequest(**{name: entry[name] for name in _TYPES}) for entry in found]
    except (OSError, ValueError, TypeError, KeyError):
        return []


class AccessRequests:
    """The file at ``path``. Changes raise OSError where the disk refuses; nothing is changed then."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, requests: list[AccessRequest]) -> None:
        # Not synced: a worker that waits for the disk would stop its traffic.
        with whole(self._path, synced=False) as out:
            out.write(json.dumps([asdict(one) for one in requests]).encode())

    def all(self, now: float) -> list[AccessRequest]:
        """Those that wait, the oldest first."""
        return [one for one in _read(self._path) if one.time > now - EXPIRES]

    def add(self, request: AccessRequest) -> Taken:
        """Keep a request, unless its client has one for the same host, or too many."""
        with self._alone():
            waiting = self.all(request.time)
            if any(one.who == request.who and one.host == request.host for one in waiting):
                return Taken.ALREADY
            of_client = sum(one.client == request.client for one in waiting)
            if len(waiting) >= MAX_REQUESTS or of_client >= MAX_PER_CLIENT:
                return Taken.FULL
            self._write([*waiting, request])
            return Taken.YES

    def remove(self, number: str, now: float) -> bool:
        """Forget the request ``number``; False where there is none."""
        with self._alone():
            waiting = self.all(now)
            left = [one for one in waiting if one.id != number]
            if len(left) == len(waiting):
                return False
            self._write(left)
            return True

    def drop_expired(self, now: float) -> None:
        """Forget those that nobody has answered in time."""
        if len(self.all(now)) != len(_read(self._path)):
            with self._alone():
                self._write(self.all(now))

    def erase(self) -> None:
        """Forget them all."""
        with self._alone():
            self._path.unlink(missing_ok=True)

    def plain(self, now: float) -> list[dict[str, Any]]:
        """The varlink type ``AccessRequest``, one each."""
        return [asdict(one) for one in self.all(now)]
