"""Reads the session log as it grows: over rotations, truncations and lines that are none.

    sessions.jsonl.2   sessions.jsonl.1   sessions.jsonl
    (older)            (moved away)       (being written)

The supervisor moves the log away by its size; a worker may write to the moved one for a moment yet.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from appliance.session.history import Place
from appliance.session.row import MAX_LINE, NoRowError, Row, parse

# Octets taken at once: some 3,000 lines. One transaction's worth, well under MAX_BATCH lines of the shortest.
CHUNK = 1 << 20
# How many moved logs are looked for; the supervisor keeps four.
MAX_MOVED = 16
# How long a moved log is waited at after its successor was begun. Less would lose what a busy worker writes
# before it opens the new one; meanwhile the new one waits, so more would only delay it.
GRACE = 5.0


@dataclass(slots=True)
class Batch:
    """What one look at the log gave: rows, the lines they were, and how far it has been read then."""

    rows: list[Row]
    lines: list[bytes]
    place: Place


class Follower:
    """``read`` gives what is new; ``accept`` says that it is safe, and only then does the place move on."""

    def __init__(self, path: Path, place: Place | None) -> None:
        self._path = path
        self._place = place
        self._quiet_since: float | None = None  # when a successor was first seen
        self.garbage = 0  # lines that are none
        self.lost = 0  # times that a log was gone, perhaps before it was read to its end

    def accept(self, batch: Batch) -> None:
        """The batch is kept."""
        self._place = batch.place

    def at_end(self) -> Place | None:
        """The end of the log as it is now, to go on from there; None where there is no log."""
        try:
            with self._path.open("rb") as file:
                return _place(file.fileno(), os.fstat(file.fileno()).st_size)
        except OSError:
            return None

    def skip_to(self, place: Place | None) -> None:
        """Go on from there."""
        self._place = place
        self._quiet_since = None

    def behind(self) -> int:
        """Octets of the log that were not read yet."""
        total = 0
        place = self._place
        for path in self._files():
            try:
                found = path.stat()
            except OSError:
                continue
            if place is not None and found.st_ino == place.inode:
                return total + max(found.st_size - place.offset, 0)
            total += found.st_size
        return total

    def read(self, now: float) -> Batch | None:
        """The next lines; None where there is nothing new. ``now``: monotonic seconds. OSError."""
        place = self._place
        if place is None:
            return self._begin()
        for number, path in enumerate(self._files()):
            try:
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                found = os.fstat(file)
                if found.st_ino != place.inode:
                    continue
                if found.st_size < place.offset or (place.offset and _first_of(file) != place.first):
                    break  # truncated, or another file by the same number
                batch = self._chunk(file, place.offset, number > 1 or self._is_quiet(now))
            finally:
                os.close(file)
            if batch is not None:
                return batch
            return self._go_on(number, now) if number else None
        batch = self._begin(place.changed)
        self.lost += batch is not None
        return batch

    def _files(self) -> list[Path]:
        """The log, then the moved ones from new to old, whether they are there or not."""
        moved = (self._path.with_name(f"{self._path.name}.{number}") for number in range(1, MAX_MOVED))
        return [self._path, *moved]

    def _begin(self, after: int = -1) -> Batch | None:
        """From the oldest log that was changed after ``after``: those before it were read."""
        self._quiet_since = None
        for number, path in reversed(list(enumerate(self._files()))):
            batch = self._from_start(path, number > 1, after)
            if batch is not None:
                return batch
        return None

    def _from_start(self, path: Path, is_whole: bool, after: int = -1) -> Batch | None:
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return self._chunk(file, 0, is_whole) if os.fstat(file).st_mtime_ns > after else None
        finally:
            os.close(file)

    def _is_quiet(self, now: float) -> bool:
        return self._quiet_since is not None and now - self._quiet_since >= GRACE

    def _go_on(self, number: int, now: float) -> Batch | None:
        """A moved log was read to its end: is it time for the one after it?"""
        if self._quiet_since is None:
            self._quiet_since = now
        # Only the youngest of the moved ones can still be written to.
        if number == 1 and not self._is_quiet(now):
            return None
        for newer in range(number - 1, -1, -1):
            batch = self._from_start(self._files()[newer], newer > 1)
            if batch is not None:
                self._quiet_since = None
                return batch
        return None

    def _chunk(self, file: int, offset: int, is_whole: bool) -> Batch | None:
        """What stands behind ``offset``; ``is_whole``: nobody will finish a line that has no end."""
        data = os.pread(file, CHUNK, offset)
        if not data:
            return None
        end = data.rfind(b"\n") + 1
        if not end:
            # A line that has no end yet, or is none: what is longer than any line is passed over.
            if len(data) < MAX_LINE and not is_whole:
                return None
            end = len(data)  # counted as a line below
        rows, lines = [], []
        for line in data[:end].split(b"\n"):
            if not line:
                continue
            try:
                rows.append(parse(line))
                lines.append(line)
            except NoRowError:
                self.garbage += 1
        return Batch(rows, lines, _place(file, offset + end))


def _place(file: int, offset: int) -> Place:
    found = os.fstat(file)
    return Place(found.st_ino, offset, _first_of(file), found.st_mtime_ns)


def _first_of(file: int) -> str:
    """A digest of a file's first line."""
    line, _end, _rest = os.pread(file, MAX_LINE, 0).partition(b"\n")
    return blake2b(line, digest_size=16).hexdigest()
