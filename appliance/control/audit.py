"""The audit log: who did what to the box, in JSON lines, each naming the digest of the one before.

A line that is changed, removed or put in between breaks the chain from there on. Whoever writes it as root
can forge all that follows: the last digest, which `isthmus audit --verify` says, is worth noting elsewhere.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.files import PRIVATE, PRIVATE_FOLDER

# Octets of one file, and how many are kept: some 40,000 lines. Less forgets who did it before anybody asks;
# more is a slow search, and room that the box's state has better uses for.
MAX_FILE = 2 << 20
KEPT_FILES = 5
# Of a line's texts. What is longer is cut: nobody fills the log with one request.
MAX_TEXT = 300
# Failed tries that get a line of their own in a minute. More, and a guesser washes out what happened before;
# the others are counted, and told in one line.
FAILURES_A_MINUTE = 30
# Entries of a page.
MAX_PAGE = 500
START = "0" * 64
FIELDS = ("who", "role", "via", "address", "action", "about", "outcome")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of a look at the chain. ``problem`` in words; ``head`` is the digest of the last line."""

    entries: int
    problem: str | None
    head: str


def digest(line: str) -> str:
    """Of a line, without its end."""
    return hashlib.sha256(line.encode()).hexdigest()


def judge(lines: Iterator[str], before: str | None = None) -> Verdict:
    """Walk the chain, the oldest line first. ``before``: what the first one names, where that is known."""
    previous, sequence, count = before, None, 0
    for line in lines:
        count += 1
        try:
            entry = json.loads(line)
            named, number = entry["prev"], entry["seq"]
        except (ValueError, KeyError, TypeError):
            return Verdict(count, f"Line {count} is no entry.", previous or START)
        if previous is not None and named != previous:
            words = f"Entry {number} does not follow the one before it: something was changed or removed."
            return Verdict(count, words, previous)
        if sequence is not None and number != sequence + 1:
            return Verdict(count, f"Entry {number} follows entry {sequence}.", previous or START)
        previous, sequence = digest(line), number
    return Verdict(count, None, previous or START)


class Audit:
    """The files in ``folder``; audit.jsonl is written, audit.1.jsonl is the one before."""

    def __init__(self, folder: Path, wall: Callable[[], float] = time.time, max_file: int = MAX_FILE) -> None:
        self._folder = folder
        self._path = folder / "audit.jsonl"
        self._wall = wall
        self._max_file = max_file
        self._line = threading.Lock()
        self._minute = (0, 0)  # which one, and the failures in it
        self._sequence, self._head = self._resume()

    def _resume(self) -> tuple[int, str]:
        """(the last number, the last digest). A line that a power cut left half is cut off."""
        try:
            data = self._path.read_bytes()
            if data and not data.endswith(b"\n"):
                whole = data.rfind(b"\n") + 1
                os.truncate(self._path, whole)
        except OSError:
            pass
        for entry, line in self._newest_first():
            return int(entry.get("seq", 0)), digest(line)
        return 0, START

    # -- writing ---------------------------------------------------------------------------------

    def note(self, outcome: str, action: str, about: str = "", **who: str) -> None:
        """Write one entry down; ``who``, ``role``, ``via``, ``address``. A full disk stops nobody."""
        with self._line:
            self._write({**who, "action": action, "about": about, "outcome": outcome})

    def failed(self, action: str, about: str = "", **who: str) -> None:
        """As ``note`` with the outcome "failed"; of a flood only the first get a line of their own."""
        with self._line:
            minute = int(self._wall() // 60)
            if self._minute[0] != minute:
                self._tell_more()
                self._minute = (minute, 0)
            self._minute = (minute, self._minute[1] + 1)
            if self._minute[1] <= FAILURES_A_MINUTE:
                self._write({**who, "action": action, "about": about, "outcome": "failed"})

    def _tell_more(self) -> None:
        more = self._minute[1] - FAILURES_A_MINUTE
        if more > 0:
            self._write({"action": "sign-in", "about": f"{more} more in one minute", "outcome": "failed"})

    def _write(self, fields: Mapping[str, str]) -> None:
        entry: dict[str, Any] = {"seq": self._sequence + 1, "time": round(self._wall(), 3)}
        entry.update((name, fields.get(name, "")[:MAX_TEXT]) for name in FIELDS)
        entry["prev"] = self._head
        line = json.dumps(entry, ensure_ascii=False)
        try:
            self._folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            self._rotate()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, PRIVATE)
            try:
                data, size = line.encode() + b"\n", os.fstat(descriptor).st_size
                if os.write(descriptor, data) < len(data):
                    os.ftruncate(descriptor, size)  # half a line would make one of it and the next
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            print(f"isthmus-control: audit: {error}: {line}", file=sys.stderr)  # the journal has it then
            return
        self._sequence += 1
        self._head = digest(line)

    def _rotate(self) -> None:
        try:
            if self._path.stat().st_size < self._max_file:
                return
        except FileNotFoundError:
            return
        for number in range(KEPT_FILES - 2, 0, -1):
            older = self._file(number)
            if older.exists():
                older.replace(self._file(number + 1))
        self._path.replace(self._file(1))

    def _file(self, number: int) -> Path:
        return self._folder / f"audit.{number}.jsonl" if number else self._path

    # -- reading ---------------------------------------------------------------------------------

    def _lines(self, number: int) -> list[str]:
        try:
            # splitlines() would also cut where a comment has U+2028 or its like.
            text = self._file(number).read_text(errors="replace").removesuffix("\n")
        except OSError:
            return []
        return text.split("\n") if text else []

    def _newest_first(self) -> Iterator[tuple[dict[str, Any], str]]:
        for number in range(KEPT_FILES):
            for line in reversed(self._lines(number)):
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if isinstance(entry, dict):
                    yield entry, line

    def page(
        self, filters: Mapping[str, Any], cursor: int | None, limit: int
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Entries numbered below ``cursor``, the newest first; the next page's cursor, None after the last.

        filters: ``since``, ``until`` (not included), ``who``, ``action``, ``outcome`` (whole), ``text``.
        """
        found: list[dict[str, Any]] = []
        for entry, _line in self._newest_first():
            number = entry.get("seq")
            if not isinstance(number, int) or (cursor is not None and number >= cursor):
                continue
            if not _matches(entry, filters):
                continue
            if len(found) == min(limit, MAX_PAGE):
                return found, int(found[-1]["seq"])
            found.append({key: one for key, one in entry.items() if key != "prev"})
        return found, None

    def verify(self) -> Verdict:
        """Whether every line still follows from the one before, to the last one written."""
        with self._line:
            head = self._head
            lines = (line for number in reversed(range(KEPT_FILES)) for line in self._lines(number))
            found = judge(lines)
        if found.problem is None and found.head != head:
            return Verdict(found.entries, "The last entries are missing.", found.head)
        return found


def _matches(entry: Mapping[str, Any], filters: Mapping[str, Any]) -> bool:
    when = entry.get("time", 0.0)
    if filters.get("since") is not None and when < filters["since"]:
        return False
    if filters.get("until") is not None and when >= filters["until"]:
        return False
    if any(filters.get(name) and entry.get(name) != filters[name] for name in ("who", "action", "outcome")):
        return False
    text = str(filters.get("text") or "").lower()
    return not text or any(text in str(entry.get(name, "")).lower() for name in FIELDS)
