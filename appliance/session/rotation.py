"""A log that is moved away when it is large or a day old, so that what is too old can go file by file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

DAY = 86_400.0
# Seconds for which one that others read stays at the least. Where a day is all that is kept it would go at
# once, with lines that the history has not taken in, and those that the workers write yet.
CATCH_UP = 600.0
# Of the first line, which says when the log was begun.
_MAX_FIRST = 8_192


class Rotation:
    """``path`` and ``kept`` older ones beside it, path.1 the youngest.

    ``time_of`` says when a line was written, in seconds since 1970; None where it does not tell.
    """

    def __init__(
        self, path: Path, max_bytes: int, kept: int, time_of: Callable[[bytes], float | None]
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._kept = kept
        self._time_of = time_of
        self._inode = -1  # whose beginning is known
        self._began: float | None = None

    def is_due(self, now: float) -> bool:
        """Whether the log is to be moved away; ``now``: since 1970. OSError, where there is none too."""
        found = self._path.stat()
        if found.st_size >= self._max_bytes:
            return True
        if found.st_ino != self._inode and found.st_size:
            with self._path.open("rb") as file:
                line = file.readline(_MAX_FIRST)
            if not line.endswith(b"\n"):
                return False  # it is being written
            self._began = self._time_of(line.rstrip())
            self._inode = found.st_ino
        return found.st_size > 0 and self._began is not None and now - self._began >= DAY

    def move(self) -> None:
        """Move each one further, the oldest away; whoever writes has to open the log anew. OSError."""
        for number in range(self._kept - 1, 0, -1):
            older = self._moved(number)
            if older.exists():
                older.replace(self._moved(number + 1))
        self._path.replace(self._moved(1))
        self._inode = -1

    def forget(self, oldest: float, stays: float = 0.0) -> None:
        """Delete the moved ones that may hold lines from before ``oldest`` (since 1970). OSError.

        A moved log spans a day at most, or is full before; it may stay so many seconds longer.
        """
        for number in range(1, self._kept + 1):
            moved = self._moved(number)
            try:
                if moved.stat().st_mtime < oldest + DAY - stays:
                    moved.unlink()
            except FileNotFoundError:
                continue

    def erase(self) -> None:
        """Empty the log, for whoever has it open too, and delete the moved ones. OSError."""
        for number in range(1, self._kept + 1):
            self._moved(number).unlink(missing_ok=True)
        try:
            os.truncate(self._path, 0)
        except FileNotFoundError:
            pass
        self._inode = -1

    def _moved(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
