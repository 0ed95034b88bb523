"""One list: when it is due, how it becomes a table, what stays when that fails."""

from __future__ import annotations

import json
import os
import stat
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from appliance.config.rules import NameList
from appliance.files import whole
from appliance.lists.fetch import FetchError, Validators, Waits, fetch
from appliance.lists.unpack import Unpacker, UnpackError
from appliance.policy.lists import Counts, ListError, ListParser
from appliance.policy.name_table import KEY, NameTable, TableBuilder, TableError
from appliance.session.tables import SUFFIX

# Seconds until a failed fetch is tried again; doubled each time. At a start the WAN may not be up yet; a
# server that is down for a day is asked some thirty times.
FIRST_RETRY = 10.0
MAX_RETRY = 3_600.0
# Between two looks at a local file.
FILE_LOOK = 10.0
# A fetch that seems to be that far in the future was booked by a clock that was wrong.
_CLOCK_SLACK = 3_600.0
_HOUR = 3_600
_CHUNK = 1 << 20
_READABLE = 0o640  # by the group of the box's daemons


@dataclass(slots=True)
class Book:
    """What is known of the table: it lies beside the kept one."""

    source: str = ""
    form: str = ""
    max_mib: int = 0
    etag: str = ""
    modified: str = ""
    fetched: float = 0.0  # when it was last found good, seconds since 1970
    names: int = 0
    exceptions: int = 0
    skipped: int = 0
    not_understood: int = 0
    first_not_understood: str = ""
    octets: int = 0  # unpacked
    told_format: str = ""


@dataclass(frozen=True, slots=True)
class Folders:
    """``served``: the tables that workers map; ``kept``: what outlives a restart."""

    served: Path
    kept: Path


class Keeper:
    """Keeps the table of ``settings`` up to date. ``refresh`` may take minutes: give it a thread."""

    def __init__(self, settings: NameList, folders: Folders, waits: Waits | None = None) -> None:
        self.settings = settings
        self.busy = False
        self.problem = ""  # why there is no newer copy
        self.unkept = ""  # why the one in use would not outlive a restart
        self.due = 0.0
        self._folders = folders
        self._waits = waits
        self._retry = FIRST_RETRY
        self._seen: tuple[int, ...] = ()  # of a local file: what it was when it was read
        self._served = folders.served / f"{settings.name}{SUFFIX}"
        self._kept = folders.kept / f"{settings.name}{SUFFIX}"
        self._book_path = folders.kept / f"{settings.name}.json"
        self.book = Book()
        self._restore()

    @property
    def is_file(self) -> bool:
        """True where the source is a file of this box."""
        return self.settings.source.startswith("/")

    def configure(self, settings: NameList) -> None:
        """Other settings of the same list: it is due at once where they change what it holds."""
        if settings != self.settings:
            same = self._is_of(settings)
            self.settings = settings
            self._retry = FIRST_RETRY
            self._seen = ()
            self.due = self._next(self.book.fetched) if same and not self.problem else 0.0

    def _is_of(self, settings: NameList) -> bool:
        book = self.book
        return (book.source, book.form, book.max_mib) == (settings.source, settings.format, settings.max_mib)

    def is_due(self, now: float) -> bool:
        """Whether to ``refresh``; ``now``: seconds since 1970."""
        return not self.busy and (now >= self.due or self.due - now > self._longest() + _CLOCK_SLACK)

    def _longest(self) -> float:
        return max(self.settings.refresh_hours * _HOUR, MAX_RETRY)

    def _next(self, fetched: float) -> float:
        return fetched + (FILE_LOOK if self.is_file else self.settings.refresh_hours * _HOUR)

    def _restore(self) -> None:
        """Serve the kept table, at a start."""
        try:
            book = Book(**json.loads(self._book_path.read_text()))
            NameTable(self._kept.read_bytes())
        except (OSError, ValueError, TypeError, TableError):
            return  # one that is served still, from before, is better than none
        try:
            if not self._served.exists():
                _replace(self._served, lambda out: _copy(self._kept, out), synced=False)
        except OSError as error:
            self.problem = f"the kept copy cannot be served: {error.strerror or error}"
            return
        self.book = book
        if self._is_of(self.settings):
            self.due = self._next(book.fetched)

    def refresh(self, now: float) -> None:
        """Look whether there is a newer one, and serve it; ``problem`` says why not. ``now``: since 1970."""
        settings = self.settings  # others may come meanwhile
        problem = ""
        try:
            if self.is_file:
                self._read_file(settings, now)
            else:
                self._fetch(settings, now)
        except (FetchError, UnpackError, ListError) as error:
            problem = str(error) if isinstance(error, FetchError) else f"the list {error}"
        except OSError as error:
            problem = f"the new copy cannot be stored: {error.strerror or error}"
        except MemoryError:
            problem = "there is not enough memory for it"
        except Exception as error:
            # A fault of ours in what is made of a stranger's octets: without a wait and a word the server
            # would be asked each second for ever, and nobody would know.
            traceback.print_exc()
            problem = f"a fault in the keeper of lists ({type(error).__name__})"
        if problem:
            self.due = now + (FILE_LOOK if self.is_file else self._retry)
            self._retry = min(self._retry * 2, MAX_RETRY)
            problem = f"{problem}; {self._what_stays()}"
        else:
            self.due = self._next(now)
            self._retry = FIRST_RETRY
        self.problem = problem
        if self.settings is not settings:
            self.due = 0.0

    def _what_stays(self) -> str:
        if not self._served.exists():
            return "there is no earlier copy, so that no name is in it"
        day = datetime.fromtimestamp(self.book.fetched, UTC)
        return f"the copy of {day:%Y-%m-%d %H:%M} UTC stays in use"

    def _fetch(self, settings: NameList, now: float) -> None:
        book = self.book
        known = Validators()
        if self._is_of(settings) and self._served.exists():
            known = Validators(book.etag, book.modified)
        parser, builder = _parser(settings)
        validators = fetch(settings.source, known, parser.feed, self._waits)
        if validators is not None:
            self._serve(settings, parser, builder, parser.finish(), validators, now)
        elif known == Validators():
            raise FetchError("the server says that nothing has changed, which it was not asked")
        else:
            book.fetched = now
            self._keep(table=bool(self.unkept))

    def _read_file(self, settings: NameList, now: float) -> None:
        parser, builder = _parser(settings)
        try:
            # Not blocking: it might be a pipe.
            fd = os.open(settings.source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                found = os.fstat(fd)
                if not stat.S_ISREG(found.st_mode):
                    raise FetchError("the source is no file")
                seen = (found.st_ino, found.st_size, found.st_mtime_ns)
                if seen == self._seen and self._served.exists():
                    return
                unpacker = Unpacker(parser.feed)
                while data := os.read(fd, _CHUNK):
                    unpacker.feed(data)
            finally:
                os.close(fd)
        except OSError as error:
            raise FetchError(f"the file cannot be read: {error.strerror}") from None
        unpacker.finish()
        self._serve(settings, parser, builder, parser.finish(may_be_empty=True), Validators(), now)
        self._seen = seen

    def _serve(
        self,
        settings: NameList,
        parser: ListParser,
        builder: TableBuilder,
        counts: Counts,
        validators: Validators,
        now: float,
    ) -> None:
        _replace(self._served, lambda out: builder.write(out, parser.exceptions_win), synced=False)
        self.book = Book(
            settings.source,
            settings.format,
            settings.max_mib,
            validators.etag,
            validators.modified,
            now,
            counts.names,
            counts.exceptions,
            counts.skipped,
            counts.bad,
            counts.first_bad,
            parser.octets,
            parser.form,
        )
        self._keep(table=True)

    def _keep(self, table: bool) -> None:
        """On the disk, the table before what is written of it. A full disk costs the next start, no more."""
        try:
            if table:
                _replace(self._kept, lambda out: _copy(self._served, out))
            text = json.dumps(asdict(self.book)).encode()
            _replace(self._book_path, lambda out: out.write(text))
        except OSError as error:
            self.unkept = f"it is in use, but cannot be kept for the next start: {error.strerror or error}"
        else:
            self.unkept = ""

    def status(self) -> dict[str, Any]:
        """What others are shown. State: good, old (an earlier copy is in use) or none; times since 1970."""
        book = self.book
        has_any = self._served.exists()
        current = not self.problem and self._is_of(self.settings)
        return {
            "name": self.settings.name,
            "source": self.settings.source,
            "state": "none" if not has_any else "good" if current else "old",
            "busy": self.busy,
            "format": book.told_format,
            "names": book.names,
            "exceptions": book.exceptions,
            "skipped": book.skipped,
            "not_understood": book.not_understood,
            "first_not_understood": book.first_not_understood,
            "octets": book.octets,
            "fetched": book.fetched,
            "next": 0.0 if self.is_file else self.due,  # a file is looked at all the time
            "problem": self.problem or self.unkept,
        }


def _parser(settings: NameList) -> tuple[ListParser, TableBuilder]:
    builder = TableBuilder(os.urandom(KEY))

    def add(name: bytes, flags: int) -> None:
        try:
            builder.add(name, flags)
        except ValueError as error:
            raise ListError(str(error)) from None

    return ListParser(settings.format, settings.max_mib << 20, add), builder


def _copy(path: Path, out: BinaryIO) -> None:
    with path.open("rb") as stream:
        while data := stream.read(_CHUNK):
            out.write(data)


def _replace(path: Path, write: Callable[[BinaryIO], object], synced: bool = True) -> None:
    """Write a file whole or not at all; OSError. ``synced``: it is there after the plug was pulled, too."""
    with whole(path, _READABLE, synced=synced) as out:
        write(out)
