"""Counters of limits, shared by all workers and kept over restarts: one file that each of them maps.

A *meter* is for one limit and one subject ("mib-a-day" of "fd00:1::2"), and stands at a *place* of the file.
It has a cell for each worker, who writes no other, so that no worker waits for another; what counts is the
sum. A worker that drains shares its cells with its heir: whoever changes them is ``alone`` meanwhile. Bytes
are of a day and a month, in the box's time zone: a cell whose day is over counts as nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from appliance.dataplane import MAX_WORKERS

# Subjects that are counted. More would be a larger file (20 MiB, of which only what is used takes room); then
# a new one takes the place of one that has no session, of the few (NEIGHBOURS) that it may take: of the one
# that has used least. Fewer of these would push out who has used much, more would cost each new subject more.
MAX_METERS = 8_192
NEIGHBOURS = 16
MAX_KEY = 111  # octets: a limit's name (32), a NUL, a subject (an account's name has 64)
_MAGIC = b"isthmus meters 1"
_HEADER = 64
_KEY = MAX_KEY + 1
_FLOCK = struct.Struct("hhqqi4x")  # struct flock: kind, whence, start, length, pid
_CELL = struct.Struct("<IIQQII")  # day, month, their octets, sessions, new ones in a second
_USED = struct.Struct("<IIQQ")  # the octets' part of it
# Sessions: twelve bits of how many move something, twenty bits of how many there are.
_SESSIONS = struct.Struct("<I")
_SESSIONS_AT = _USED.size
# New ones: twelve bits that tell the second from those about it, twenty bits of a count.
_NEW = struct.Struct("<I")
_NEW_AT = _CELL.size - _NEW.size
_COUNT_BITS, _COUNT_MASK, _SECOND_MASK = 20, (1 << 20) - 1, 0xFFF
# Sessions that move something, of a subject at a worker; the others take more for so many. A rate that is
# shared out among so many gives each less than ``quotas.MIN_RATE`` up to 134 Mbit/s.
MAX_ACTIVE = 0xFFF
_SLOT = _KEY + MAX_WORKERS * _CELL.size
assert MAX_WORKERS <= _HEADER
_SIZE = _HEADER + MAX_METERS * _SLOT


class Reading(NamedTuple):
    """What a meter shows. ``day`` and ``month`` in octets."""

    sessions: int
    day: int
    month: int


class Period(NamedTuple):
    """Which day and month it is, as numbers that grow."""

    day: int
    month: int


def period_of(local: datetime) -> Period:
    """The period of a moment in the box's time zone."""
    return Period(local.toordinal(), local.year * 12 + local.month)


class Meters:
    """The file at ``path``, made where there is none of this kind. ``worker``: whose cells are ours."""

    def __init__(self, path: Path, worker: int) -> None:
        """OSError where it cannot be used."""
        self._worker = worker
        self._slots: dict[bytes, int] = {}  # of keys; another worker may have given one away since
        self._known = 0  # so many places were taken when it was last looked
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            with _locked(self._file):
                if os.fstat(self._file).st_size != _SIZE or os.pread(self._file, len(_MAGIC), 0) != _MAGIC:
                    os.ftruncate(self._file, 0)
                    os.ftruncate(self._file, _SIZE)
                    os.pwrite(self._file, _MAGIC, 0)
            self._map = mmap.mmap(self._file, _SIZE)
        except BaseException:
            os.close(self._file)
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()
        os.close(self._file)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else changes the cells of this worker's number; not to be nested.

        The lock is of the open file: it goes with its holder, however that ends.
        """
        self._lock(fcntl.F_WRLCK)
        try:
            yield
        finally:
            self._lock(fcntl.F_UNLCK)

    def _lock(self, kind: int) -> None:
        # An octet of the header stands for each worker's cells.
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLKW, _FLOCK.pack(kind, os.SEEK_SET, self._worker, 1, 0))

    def meter(self, limit: str, subject: str, period: Period | None = None) -> int:
        """The meter's place, for the other methods; -1 where there is no room for it.

        ``period``: where all places are taken, one that is idle and has used least in it is given up.
        """
        key = f"{limit}\0{subject}".encode()[:MAX_KEY].ljust(_KEY, b"\0")
        place = self._slots.get(key, -1)
        if not self._is_at(place, key):
            if len(self._slots) >= 2 * MAX_METERS:  # most of them have no place any more
                self._slots.clear()
                self._known = 0
            with _locked(self._file):
                place = self._find(key, period)
            if place >= 0:
                self._slots[key] = place
        return place

    def _is_at(self, place: int, key: bytes) -> bool:
        return place >= 0 and self._map[place : place + _KEY] == key

    def _find(self, key: bytes, period: Period | None) -> int:
        """The key's place, made where there is none; all keys that came meanwhile are known afterwards."""
        while self._known < MAX_METERS:
            place = _HEADER + self._known * _SLOT
            found = self._map[place : place + _KEY]
            if not found[0]:
                break
            self._slots[found] = place
            self._known += 1
        place = self._slots.get(key, -1)
        if self._is_at(place, key):
            return place
        if self._known < MAX_METERS:
            place = _HEADER + self._known * _SLOT
            self._map[place : place + _KEY] = key
            self._known += 1
            return place
        first = zlib.crc32(key) % max(MAX_METERS // NEIGHBOURS, 1) * NEIGHBOURS
        places = [_HEADER + number * _SLOT for number in range(first, min(first + NEIGHBOURS, MAX_METERS))]
        for place in places:
            if self._is_at(place, key):
                return place
        return -1 if period is None else self._take_over(key, places, period)

    def _take_over(self, key: bytes, places: list[int], period: Period) -> int:
        """The place of the idle one that has used least."""
        idle = []
        for place in places:
            cells = list(_CELL.iter_unpack(self._map[place + _KEY : place + _SLOT]))
            if not any(cell[4] for cell in cells):
                month = sum(cell[3] for cell in cells if cell[1] == period.month)
                idle.append((month, place))
        if not idle:
            return -1
        place = min(idle)[1]
        self._map[place + _KEY : place + _SLOT] = bytes(_SLOT - _KEY)
        self._map[place : place + _KEY] = key
        return place

    def hold(self, place: int) -> None:
        """Somebody is about to use it: until this worker says how many sessions it has, it is not idle."""
        at = place + _KEY + self._worker * _CELL.size + _SESSIONS_AT
        if not any(self._map[at : at + _SESSIONS.size]):
            _SESSIONS.pack_into(self._map, at, 1 << _COUNT_BITS)

    def add(self, place: int, octets: int, period: Period) -> None:
        """Count octets; ``alone``."""
        at = place + _KEY + self._worker * _CELL.size
        day, month, of_day, of_month = _USED.unpack_from(self._map, at)
        of_day = octets + (of_day if day == period.day else 0)
        of_month = octets + (of_month if month == period.month else 0)
        _USED.pack_into(self._map, at, period.day, period.month, of_day, of_month)

    def count_new(self, place: int, second: int) -> None:
        """Count a new session of this worker's in ``second`` (steady, whole)."""
        at = place + _KEY + self._worker * _CELL.size + _NEW_AT
        (found,) = _NEW.unpack_from(self._map, at)
        mark = second & _SECOND_MASK
        count = found & _COUNT_MASK if found >> _COUNT_BITS == mark else 0
        _NEW.pack_into(self._map, at, mark << _COUNT_BITS | min(count + 1, _COUNT_MASK))

    def new(self, place: int, second: int, workers: int) -> int:
        """The new sessions of all workers in ``second``; ``workers``: how many there are."""
        mark, at = second & _SECOND_MASK, place + _KEY + _NEW_AT
        total = 0
        for _ in range(workers):
            (found,) = _NEW.unpack_from(self._map, at)
            if found >> _COUNT_BITS == mark:
                total += found & _COUNT_MASK
            at += _CELL.size
        return total

    def set_sessions(self, place: int, sessions: int, active: int = 0) -> None:
        """Say how many sessions this worker has, and how many of them move something."""
        at = place + _KEY + self._worker * _CELL.size + _SESSIONS_AT
        both = min(active, MAX_ACTIVE) << _COUNT_BITS | min(sessions, _COUNT_MASK)
        _SESSIONS.pack_into(self._map, at, both)

    def active(self, place: int, workers: int) -> int:
        """How many sessions of the other workers move something; ``workers``: how many there are."""
        total, at = 0, place + _KEY + _SESSIONS_AT
        for worker in range(workers):
            if worker != self._worker:
                total += _SESSIONS.unpack_from(self._map, at)[0] >> _COUNT_BITS
            at += _CELL.size
        return total

    def forget_sessions(self, workers: Iterable[int]) -> None:
        """Those of workers before, which are over, or which nobody counts on."""
        for place in self._places():
            for worker in workers:
                _SESSIONS.pack_into(self._map, place + _KEY + worker * _CELL.size + _SESSIONS_AT, 0)

    def read(self, place: int, period: Period, but_own_sessions: bool = False) -> Reading:
        """The sum over all workers; ``but_own_sessions``: this worker's sessions are left out."""
        sessions = of_day = of_month = 0
        cells = self._map[place + _KEY : place + _SLOT]
        own = self._worker if but_own_sessions else -1
        for worker, (day, month, day_octets, month_octets, here, _new) in enumerate(_CELL.iter_unpack(cells)):
            if worker != own:
                sessions += here & _COUNT_MASK
            if day == period.day:
                of_day += day_octets
            if month == period.month:
                of_month += month_octets
        return Reading(sessions, of_day, of_month)

    def reset(self, place: int) -> None:
        """The octets begin anew."""
        for worker in range(MAX_WORKERS):
            _USED.pack_into(self._map, place + _KEY + worker * _CELL.size, 0, 0, 0, 0)

    def _places(self) -> list[int]:
        found = []
        for number in range(MAX_METERS):
            place = _HEADER + number * _SLOT
            if not self._map[place]:
                break
            found.append(place)
        return found

    def all(self, period: Period) -> list[tuple[str, str, Reading]]:
        """Every meter: limit, subject, what it shows."""
        found = []
        for place in self._places():
            key = self._map[place : place + _KEY].rstrip(b"\0").decode("utf-8", "replace")
            limit, _nul, subject = key.partition("\0")
            found.append((limit, subject, self.read(place, period)))
        return found


@contextlib.contextmanager
def _locked(file: int) -> Iterator[None]:
    """Nobody else makes the file, or a meter in it."""
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
