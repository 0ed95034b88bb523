"""The lists' tables as a process sees them: mapped, taken up anew when they change, their hits counted."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from appliance.policy.name_table import NameTable, TableError

SUFFIX = ".table"
# Seconds between two looks at the folder: lists change by the hour, a session should cost no system call.
LOOK = 1.0
# A folder's time goes by the kernel's ticks: what changed in one that was just looked at looks unchanged.
_SETTLED = 100_000_000  # nanoseconds


class CountedTable:
    """A table whose hits are counted. It is what rules ask (``policy.request.Names``)."""

    __slots__ = ("_find", "hits", "identity", "names")

    def __init__(self, table: NameTable, identity: tuple[int, int], hits: int) -> None:
        self._find = table.find
        self.names = len(table)
        self.identity = identity
        self.hits = hits

    def find(self, name: str) -> str:
        """As ``NameTable.find``."""
        found = self._find(name)
        if found:
            self.hits += 1
        return found


class Tables(Mapping[str, CountedTable]):
    """The tables in ``folder``, NAME.table each, by name. ``refresh`` as often as you like."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tables: dict[str, CountedTable] = {}
        self._looked = float("-inf")
        self._seen = -1
        self.problems: dict[str, str] = {}  # by list: why its newest table is not in use

    def __getitem__(self, name: str) -> CountedTable:
        return self._tables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def hits(self) -> dict[str, int]:
        """By list, since the start of this process."""
        return {name: table.hits for name, table in self._tables.items()}

    def refresh(self, now: float) -> bool:
        """Take up what has changed; True where anything has. ``now``: steady seconds."""
        if now - self._looked < LOOK:
            return False
        self._looked = now
        try:
            changed = self._folder.stat().st_mtime_ns
        except OSError:
            return False  # not there yet; tables that were are in use still
        if changed == self._seen:
            return False
        before = dict(self._tables)
        self._read()
        settled = time.time_ns() - changed > _SETTLED
        self._seen = changed if settled else -1
        return self._tables != before

    def _read(self) -> None:
        tables: dict[str, CountedTable] = {}
        self.problems = {}
        for path in sorted(self._folder.glob("*" + SUFFIX)):
            name = path.name.removesuffix(SUFFIX)
            known = self._tables.get(name)
            try:
                tables[name] = _open(path, known)
            except (OSError, ValueError, TableError) as error:
                self.problems[name] = str(error)
                if known is not None:
                    tables[name] = known
        self._tables = tables


def _open(path: Path, known: CountedTable | None) -> CountedTable:
    """The table at ``path``, or ``known`` where it is that. The mapping lives as long as the table."""
    with path.open("rb") as stream:
        found = os.fstat(stream.fileno())
        identity = (found.st_ino, found.st_mtime_ns)
        if known is not None and known.identity == identity:
            return known
        mapped = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)
    return CountedTable(NameTable(memoryview(mapped)), identity, known.hits if known is not None else 0)
