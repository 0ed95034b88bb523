"""Keeps the history: takes the log in, forgets what is old, and goes on when the disk does not.

A disk that refuses stops only this: the place in the log stays, and it is tried again. A damaged database is
moved aside and begun anew from what the logs still have.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from appliance.session.follow import Batch, Follower
from appliance.session.history import DAY, MAX_BATCH, Store, is_broken

# The history does not grow where the disk has less than this left: control and the log need some.
MIN_FREE = 64 << 20
# Seconds until a disk that refused is tried again, and between two tidyings.
RETRY = 5.0
TIDY_INTERVAL = 60.0
# Batches taken in one turn; erasing and stopping wait no longer than that.
MAX_TURN = 8
DATABASE = "history.db"
DAMAGED = "history.db.damaged"
_SIDE_FILES = ("-wal", "-shm", "-journal")


class Export(Protocol):
    """Where the lines go beside the history."""

    def write(self, batch: Batch) -> None:
        """Take a batch; never waits, and never fails."""

    def forget(self, oldest: float, now: float) -> None:
        """Forget what is older than ``oldest``, where that is here; seconds since 1970. Never fails."""

    def erase(self) -> None:
        """Forget what was written, where that is here. OSError."""


class Keeper:
    """The one writer. ``turn`` is to be called again and again; its methods are safe in any thread."""

    def __init__(self, folder: Path, log: Path, exports: Sequence[Export] = ()) -> None:
        self.path = folder / DATABASE
        self.exports = exports
        self.retention = 30.0 * DAY
        self._damaged = folder / DAMAGED
        self._store: Store | None = None
        self._follower = Follower(log, None)
        self._waiting: Batch | None = None  # read, and not kept yet
        self._lock = threading.Lock()
        self._retry_at = 0.0
        self._tidy_at = 0.0
        self._octets = 0
        self.taken_in = 0
        self.moved_aside = 0
        self.problem = ""

    def turn(self, now: float, wall: float) -> bool:
        """Take in what is new; True where there is more. ``now``: monotonic seconds, ``wall``: since 1970."""
        with self._lock:
            if now < self._retry_at:
                return False
            try:
                more = self._work(now, wall)
                self._say("")
                return more
            except (sqlite3.Error, OSError) as error:
                if isinstance(error, sqlite3.Error) and is_broken(error):
                    self._move_aside(now, error)
                    return True
                self._retry_at = now + RETRY
                self._say(f"The history is not written: {error}. Sessions go on, and it is tried again.")
                return False

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            print(f"isthmus-history: {problem or 'the history is written again'}", file=sys.stderr)
            self.problem = problem

    def _work(self, now: float, wall: float) -> bool:
        store = self._open()
        batch = None
        for _ in range(MAX_TURN):
            batch = self._waiting
            if batch is None:
                batch = self._follower.read(now)
                if batch is None:
                    break
                self._waiting = batch
                for export in self.exports:  # once, also where it is kept only later
                    export.write(batch)
            store.add(batch.rows, batch.place)
            self._follower.accept(batch)
            self._waiting = None
            self.taken_in += len(batch.rows)
            self._forget(store, wall, len(batch.rows))
        self._octets = store.octets()
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_INTERVAL
            self._forget(store, wall, 0)
            store.tidy(wall, wall - self.retention)
            self._forget_damaged(wall)
            for export in self.exports:
                export.forget(wall - self.retention, wall)
        return batch is not None

    def _open(self) -> Store:
        if self._store is None:
            self._store = Store(self.path)
            self.path.chmod(0o640)
            self._follower.skip_to(self._store.place())
        return self._store

    def _forget(self, store: Store, wall: float, added: int) -> None:
        full = shutil.disk_usage(self.path.parent).free < MIN_FREE
        while store.trim(wall - self.retention, added if full else 0) == MAX_BATCH:
            added = 0

    def _forget_damaged(self, wall: float) -> None:
        """What was moved aside holds names too."""
        try:
            if self._damaged.stat().st_mtime < wall - self.retention:
                self._damaged.unlink()
        except FileNotFoundError:
            pass

    def _move_aside(self, now: float, damage: sqlite3.Error) -> None:
        self._close()
        self._waiting = None
        try:
            for path in self._side_files():
                path.unlink(missing_ok=True)
            self.path.replace(self._damaged)
        except OSError as error:
            self._retry_at = now + RETRY
            self._say(f"The history is damaged, and cannot be moved aside: {error}.")
            return
        self.moved_aside += 1
        print(f"isthmus-history: {self.path} ({damage}) is now {self._damaged}", file=sys.stderr)

    def _side_files(self) -> list[Path]:
        return [self.path.with_name(self.path.name + suffix) for suffix in _SIDE_FILES]

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def erase(self) -> None:
        """Forget everything, and go on from the log's end. OSError, sqlite3.Error where it cannot be."""
        with self._lock:
            self._close()
            self._waiting = None
            end = self._follower.at_end()
            for path in (*self._side_files(), self.path, self._damaged):
                path.unlink(missing_ok=True)
            for export in self.exports:
                export.erase()
            store = self._open()
            if end is not None:
                store.skip_to(end)
                self._follower.skip_to(end)

    def status(self) -> dict[str, Any]:
        """The varlink type ``Status`` of org.isthmus.history, without the exports.

        It waits for nothing: health asks for it, also while a long log is taken in.
        """
        store = self._store
        return {
            "rows": store.rows if store is not None else 0,
            "octets": self._octets,
            "retention_days": round(self.retention / DAY),
            "taken_in": self.taken_in,
            "behind": self._follower.behind(),
            "garbage": self._follower.garbage,
            "lost": self._follower.lost,
            "moved_aside": self.moved_aside,
            "problem": self.problem or None,
        }

    def close(self) -> None:
        """Let go of the file; what was taken in is safe."""
        with self._lock:
            self._close()
