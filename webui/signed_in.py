"""The browsers that are signed in. They live as long as the process: a restart signs everybody out."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, replace

# Of one account. More is a browser that begins one after the other; the one longest unused goes.
MAX_SESSIONS = 32
MAX_AGENT = 120


@dataclass(frozen=True, slots=True)
class Session:
    """One browser. ``began`` and ``seen`` are seconds since 1970; ``epoch`` is the account's at its begin."""

    id: str
    name: str
    epoch: int
    began: float
    seen: float
    address: str
    agent: str


class Sessions:
    """All of them; requests come in several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Session] = {}

    def begin(self, name: str, epoch: int, address: str, agent: str, now: float) -> Session:
        """A new one."""
        made = Session(secrets.token_urlsafe(24), name, epoch, now, now, address, agent[:MAX_AGENT])
        with self._lock:
            self._known[made.id] = made
            mine = sorted((one.seen, one.id) for one in self._known.values() if one.name == name)
            for _seen, old in mine[:-MAX_SESSIONS]:
                del self._known[old]
        return made

    def find(self, number: object, now: float, idle: float) -> Session | None:
        """The one with this id, unless its user was away for ``idle`` seconds."""
        with self._lock:
            found = self._known.get(number) if isinstance(number, str) else None
            if found is not None and now - found.seen >= idle:
                del self._known[found.id]
                return None
            return found

    def touch(self, number: str, now: float) -> None:
        """Its user is there."""
        with self._lock:
            if number in self._known:
                self._known[number] = replace(self._known[number], seen=now)

    def of(self, name: str) -> list[Session]:
        """Those of an account, the latest first."""
        with self._lock:
            return sorted(
                (one for one in self._known.values() if one.name == name), key=lambda one: -one.seen
            )

    def end(self, number: str) -> None:
        """Sign it out."""
        with self._lock:
            self._known.pop(number, None)

    def end_of(self, name: str, but: str = "") -> int:
        """Sign an account's out, all ``but`` one; how many."""
        with self._lock:
            gone = [one.id for one in self._known.values() if one.name == name and one.id != but]
            for number in gone:
                del self._known[number]
            return len(gone)

    def renew(self, number: str, epoch: int) -> None:
        """This one goes on after its own account changed."""
        with self._lock:
            if number in self._known:
                self._known[number] = replace(self._known[number], epoch=epoch)
