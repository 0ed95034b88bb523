"""The history of sessions in SQLite: rows, hourly and daily roll-ups, and how far the log was taken in.

One process writes, any number read (WAL). Each batch of rows, its share of the roll-ups and the place in the
log are one transaction, so that nothing is doubled or lost by a restart. Texts stand once each in ``word``;
rows have their numbers, so that a search for a part of a name looks at each name once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from appliance.session.row import Outcome, Row

HOUR, DAY = 3_600, 86_400
STEPS = (HOUR, DAY)
# Bounds of the database; the oldest rows go first. A row takes some 300 octets with its indexes. More would
# make searches slow and fill small disks, less would forget yesterday on a busy network.
MAX_ROWS = 2_000_000
MAX_BYTES = 1 << 30
# Rows that one transaction takes in, and deletes: longer ones hold up the erasing of the history and make the
# write-ahead log long, shorter ones cost a commit each.
MAX_BATCH = 5_000
# Texts whose numbers are remembered.
MAX_CACHED_WORDS = 50_000
# Of each hour and day the roll-ups name so many clients, names, …; what has least is put together as "other".
# A chart shows ten; more would cost more than the rows do.
KEPT_WORDS = 1_000
# The hour that still runs keeps more, since it does not know yet who will have most.
OPEN_WORDS = 20_000
# How long it is kept which rule and service had how much. What speaks of persons goes with the retention.
ROLLUP_DAYS = 400
# Pages that one call gives back to the disk: 8 MiB, some tens of milliseconds.
VACUUM_PAGES = 2_048
# The write-ahead log is cut to this when it was written back: a large deletion would leave one as large.
MAX_IDLE_LOG = 4 << 20
# How long a writer waits for another one; there is none but ours, so only somebody's sqlite3 by hand.
BUSY_SECONDS = 5.0

# What texts there are. Numbers, in the database: new ones at the end. A server's address is that of its
# origin inside a prefix, and stands in the row itself.
KINDS = (
    "kind",
    "reason",
    "client",
    "origin",
    "service",
    "name",
    "named_by",
    "user",
    "rule",
    "device",
    "dns_name",
)
KIND = {name: number for number, name in enumerate(KINDS)}
OUTCOMES = tuple(Outcome)
# What roll-ups are kept by; "all" has the empty word.
BY = ("all", "client", "user", "name", "rule", "service", "device")
PERSONAL = ("client", "user", "name", "device")
NO_WORD = 0  # the empty text
OTHER = -1  # in roll-ups: all that are not named

_SCHEMA_VERSION = 3
_COLUMNS = tuple(field.name for field in fields(Row))
_WORDS = tuple(index for index, name in enumerate(_COLUMNS) if name in KIND)
_OUTCOME = _COLUMNS.index("outcome")
_TEXTS = ("server", "reference")  # of each row alone, so that a word for it would be no gain
_TYPES = ", ".join(f"{name} {'TEXT' if name in _TEXTS else 'INTEGER'} NOT NULL" for name in _COLUMNS)
_NEW_INDEXES = """
CREATE INDEX session_device ON session (device, time) WHERE device != 0;
CREATE INDEX session_reference ON session (reference, time) WHERE reference != '';
"""
# Texts that nothing speaks of any more are looked for by it.
_NAMES_INDEX = "CREATE INDEX session_dns_name ON session (dns_name) WHERE dns_name != 0;"
_SCHEMA = f"""
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE word (id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, text TEXT NOT NULL, UNIQUE (kind, text));
CREATE TABLE session (id INTEGER PRIMARY KEY, {_TYPES});
CREATE INDEX session_time ON session (time);
CREATE INDEX session_client ON session (client, time);
CREATE INDEX session_name ON session (name, time);
CREATE INDEX session_origin ON session (origin, time);
CREATE INDEX session_rule ON session (rule, time);
CREATE INDEX session_user ON session (user, time) WHERE user != 0;
CREATE INDEX session_service ON session (service, time) WHERE service != 0;
CREATE INDEX session_outcome ON session (outcome, time) WHERE outcome != 0;
{_NEW_INDEXES}
{_NAMES_INDEX}
CREATE TABLE rollup (
  step INTEGER NOT NULL, by INTEGER NOT NULL, start INTEGER NOT NULL, word INTEGER NOT NULL,
  sessions INTEGER NOT NULL, refused INTEGER NOT NULL, to_wan INTEGER NOT NULL, to_lan INTEGER NOT NULL,
  PRIMARY KEY (step, by, start, word)
) WITHOUT ROWID;
CREATE INDEX rollup_word ON rollup (word, by, step, start);
CREATE TABLE place (
  id INTEGER PRIMARY KEY CHECK (id = 0), inode INTEGER NOT NULL, offset INTEGER NOT NULL, first TEXT NOT NULL,
  changed INTEGER NOT NULL
);
PRAGMA user_version = {_SCHEMA_VERSION};
COMMIT;
"""
# What makes a database of an older version one of the next, by the older one's number.
_MIGRATIONS = {
    1: f"""
BEGIN;
ALTER TABLE session ADD COLUMN device INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN dns_name INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN reference TEXT NOT NULL DEFAULT '';
{_NEW_INDEXES}
PRAGMA user_version = 2;
COMMIT;
""",
    2: f"""
BEGIN;
{_NAMES_INDEX}
PRAGMA user_version = 3;
COMMIT;
""",
}
_INSERT = f"INSERT INTO session ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_ADD = """
INSERT INTO rollup VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
sessions = sessions + excluded.sessions, refused = refused + excluded.refused,
to_wan = to_wan + excluded.to_wan, to_lan = to_lan + excluded.to_lan
"""


@dataclass(frozen=True, slots=True)
class Place:
    """How far the log was taken in: a file and the octets of it. ``first`` tells it from one that came later
    and has its inode: a digest of its first line. ``changed``: when it was written to last (nanoseconds,
    by its file system).
    """

    inode: int
    offset: int
    first: str
    changed: int


class ForeignError(sqlite3.DatabaseError):
    """A database of another version of this program, or none of ours."""


def is_broken(error: sqlite3.Error) -> bool:
    """True where it is the file and not the disk: it has to be moved aside."""
    if isinstance(error, ForeignError):
        return True
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot change anything; sqlite3.Error where there is no database."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS, isolation_level=None
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


class Store:
    """The writer's side. Methods raise sqlite3.Error where the disk refuses or the file is damaged
    (``is_broken``); nothing was changed then, and the same may be tried again.
    """

    def __init__(self, path: Path, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._words: dict[tuple[int, str], int] = {}
        self._folded = 0  # roll-ups before this were put together
        self._swept = 0  # words up to this number were looked at
        self.rows = 0
        self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            # A power cut may lose the newest transactions, whole; the log still has them.
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(f"PRAGMA journal_size_limit = {MAX_IDLE_LOG}")
            # What is forgotten is overwritten.
            database.execute("PRAGMA secure_delete = ON")
            version = database.execute("PRAGMA user_version").fetchone()[0]
            while version in _MIGRATIONS:
                database.executescript(_MIGRATIONS[version])
                version += 1
            if version != _SCHEMA_VERSION:
                if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    raise ForeignError(f"version {version} of a database, not {_SCHEMA_VERSION}")
                database.executescript(_SCHEMA)
            self.rows = database.execute("SELECT count(*) FROM session").fetchone()[0]
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # -- taking in -----------------------------------------------------------------------------

    def place(self) -> Place | None:
        """How far the log was taken in; None at the first start."""
        found = self._db.execute("SELECT inode, offset, first, changed FROM place").fetchone()
        return Place(*found) if found else None

    def add(self, rows: Sequence[Row], place: Place) -> None:
        """Take in rows of the log up to ``place``."""
        with _Transaction(self):
            values = [self._numbers(row) for row in rows]
            self._db.executemany(_INSERT, values)
            self._db.executemany(_ADD, self._rolled(values))
            self._set_place(place)
        self.rows += len(rows)

    def skip_to(self, place: Place) -> None:
        """What the log has before ``place`` is not wanted."""
        with _Transaction(self):
            self._set_place(place)

    def _set_place(self, place: Place) -> None:
        self._db.execute("INSERT OR REPLACE INTO place VALUES (0, ?, ?, ?, ?)", astuple(place))

    def _numbers(self, row: Row) -> list[Any]:
        values: list[Any] = [getattr(row, name) for name in _COLUMNS]
        for index in _WORDS:
            values[index] = self._word(KIND[_COLUMNS[index]], values[index])
        values[_OUTCOME] = OUTCOMES.index(row.outcome)
        return values

    def _word(self, kind: int, text: str) -> int:
        if not text:
            return NO_WORD
        number = self._words.get((kind, text))
        if number is None:
            found = self._db.execute(
                "SELECT id FROM word WHERE kind = ? AND text = ?", (kind, text)
            ).fetchone()
            if found:
                number = int(found[0])
            else:
                made = self._db.execute("INSERT INTO word (kind, text) VALUES (?, ?)", (kind, text))
                assert made.lastrowid is not None
                number = made.lastrowid
            if len(self._words) >= MAX_CACHED_WORDS:
                self._words.clear()
            self._words[kind, text] = number
        return number

    @staticmethod
    def _rolled(values: Iterable[Sequence[Any]]) -> list[tuple[int, ...]]:
        """What rows add to the roll-ups, as ``_ADD`` takes it."""
        places = [(number, _COLUMNS.index(by)) for number, by in enumerate(BY) if number]
        carried = OUTCOMES.index(Outcome.CARRIED)
        time, wan, lan = (_COLUMNS.index(name) for name in ("time", "to_wan", "to_lan"))
        sums: dict[tuple[int, int, int, int], list[int]] = {}
        for row in values:
            words = [(0, NO_WORD), *((number, row[place]) for number, place in places if row[place])]
            share = (1, int(row[_OUTCOME] != carried), row[wan], row[lan])
            for step in STEPS:
                start = row[time] // 1000 // step * step
                for by, word in words:
                    have = sums.setdefault((step, by, start, word), [0, 0, 0, 0])
                    for index, amount in enumerate(share):
                        have[index] += amount
        return [(*key, *amounts) for key, amounts in sums.items()]

    # -- forgetting ----------------------------------------------------------------------------

    def octets(self) -> int:
        """What the rows and their indexes take; what was given free inside the file does not count."""
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def trim(self, oldest: float, surplus: int = 0) -> int:
        """Delete at most MAX_BATCH rows that are over a bound, or before ``oldest`` (seconds since 1970).

        ``surplus``: so many are too many whatever the bounds say, for the disk is nearly full. How many went.
        """
        surplus = max(surplus, self.rows - self._max_rows)
        if self.octets() > self._max_bytes:
            surplus = MAX_BATCH
        with _Transaction(self):
            old = self._db.execute(
                "DELETE FROM session WHERE id IN "
                "(SELECT id FROM session WHERE time < ? ORDER BY time LIMIT ?)",
                (int(oldest * 1000), MAX_BATCH),
            ).rowcount
            surplus = min(surplus, MAX_BATCH) - old
            if surplus > 0:
                old += self._db.execute(
                    "DELETE FROM session WHERE id IN (SELECT id FROM session ORDER BY time LIMIT ?)",
                    (surplus,),
                ).rowcount
        self.rows -= old
        return old

    def tidy(self, now: float, oldest: float) -> None:
        """What is to be done now and then: old roll-ups go, long ones are put together, unused words go.

        ``now`` and ``oldest`` are seconds since 1970.
        """
        with _Transaction(self):
            personal = [BY.index(name) for name in PERSONAL]
            for by in range(len(BY)):
                limit = oldest if by in personal else now - ROLLUP_DAYS * DAY
                for step in STEPS:
                    self._db.execute(
                        "DELETE FROM rollup WHERE step = ? AND by = ? AND start < ?",
                        (step, by, int(limit) // step * step),
                    )
            for step in STEPS:
                for by in range(1, len(BY)):
                    self._fold(step, by, int(now))
        self._folded = int(now) - 2 * DAY
        self._sweep()
        self._db.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()

    def _fold(self, step: int, by: int, now: int) -> None:
        """Put together what has least, of each hour or day that has too many words."""
        counted = self._db.execute(
            "SELECT start, count(*) FROM rollup WHERE step = ? AND by = ? AND start >= ? GROUP BY start",
            (step, by, self._folded),
        ).fetchall()
        for start, count in counted:
            if count <= (KEPT_WORDS + 1 if start + step <= now else OPEN_WORDS):
                continue
            here = (step, by, start)
            least = self._db.execute(
                "SELECT word, sessions, refused, to_wan, to_lan FROM rollup WHERE step = ? AND by = ? AND "
                "start = ? AND word != ? ORDER BY to_wan + to_lan + sessions DESC LIMIT -1 OFFSET ?",
                (*here, OTHER, KEPT_WORDS),
            ).fetchall()
            sums = [sum(amounts) for amounts in zip(*least, strict=True)][1:]
            self._db.executemany(
                "DELETE FROM rollup WHERE step = ? AND by = ? AND start = ? AND word = ?",
                [(*here, word) for word, *_ in least],
            )
            self._db.execute(_ADD, (*here, OTHER, *sums))

    def _sweep(self) -> None:
        """Forget texts that nothing speaks of any more: of the next MAX_BATCH; after the last, the first."""
        upto = self._db.execute(
            "SELECT max(id) FROM (SELECT id FROM word WHERE id > ? ORDER BY id LIMIT ?)",
            (self._swept, MAX_BATCH),
        ).fetchone()[0]
        if upto is None:
            self._swept = 0
            return
        used = " OR ".join(
            f"(kind = {KIND[name]} AND EXISTS (SELECT 1 FROM session WHERE session.{name} = word.id"  # noqa: S608
            f"{f' AND {name} != 0' if name in ('user', 'service', 'device', 'dns_name') else ''}))"
            for name in ("client", "origin", "service", "name", "user", "rule", "device", "dns_name")
        )
        # Of the few kinds and reasons there is no index, and no end.
        kept = ", ".join(str(KIND[name]) for name in ("kind", "reason", "named_by"))
        with _Transaction(self):
            self._db.execute(
                f"DELETE FROM word WHERE id > ? AND id <= ? AND kind NOT IN ({kept}) "  # noqa: S608
                f"AND NOT ({used}) AND NOT EXISTS (SELECT 1 FROM rollup WHERE rollup.word = word.id)",
                (self._swept, upto),
            )
        self._words.clear()
        self._swept = upto

    def checkpoint(self) -> None:
        """Write everything into the one file, and the log beside it short."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


class _Transaction:
    """All of it or nothing. What was remembered of words that were taken back is forgotten too."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> None:
        self._store._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        database = self._store._db
        try:
            if kind is None:
                database.execute("COMMIT")
                return
        except sqlite3.Error:
            self._undo(database)
            raise
        self._undo(database)

    def _undo(self, database: sqlite3.Connection) -> None:
        self._store._words.clear()
        if database.in_transaction:  # a full disk has ended it already
            database.execute("ROLLBACK")
