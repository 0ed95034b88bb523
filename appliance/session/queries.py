"""Questions to the history: pages of rows, who has most, and sums over time. Each takes a connection.

What a search costs is bounded by what it looks at: rows come newest first, either by the index of the texts
that match (when they are few), or through all rows by time (when they are many, so that some match soon). A
page that looked at SCAN_ROWS rows without being full is handed out as it is, with the cursor to go on by.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from heapq import merge
from itertools import groupby, islice
from typing import Any

from appliance.errors import IsthmusError
from appliance.session.history import KIND, OUTCOMES
from appliance.session.row import MAX_NUMBER, MAX_TEXT, Row

MAX_PAGE = 1_000
# Rows that one call looks at when it goes through them by time: some 50 ms. More would hold the console up,
# less would make a search for what is rare many calls.
SCAN_ROWS = 100_000
# Texts that match, up to which each is looked up by its index: 20 µs each.
MAX_LOOKED_UP = 400
# Virtual-machine steps of SQLite between two looks at the clock, and how long a question may take. Only a
# disk that hangs, or rows as nobody expects them, need as long.
_STEPS = 10_000
QUESTION_SECONDS = 5.0

# A filter that one of several columns fulfils.
ANYWHERE = "text"
# Columns that free text is looked for in.
_FREE = ("name", "client", "origin", "user", "rule", "service", "device")
_INDEXED = {"client", "name", "origin", "rule", "user", "service", "device"}
_COARSE = {"rule", "service"}
# Indexes that leave out the rows without such a text are found only by saying so.
_PARTIAL = {"user", "service", "device"}
_COLUMNS = tuple(field.name for field in fields(Row))
_AT = {name: index for index, name in enumerate(("id", *_COLUMNS))}
_SELECT = f"SELECT id, {', '.join(_COLUMNS)} FROM session"  # noqa: S608


class QueryError(IsthmusError):
    """A question that cannot be answered, in words."""

    code = "query"


@dataclass(frozen=True, slots=True)
class Filters:
    """What rows are wanted; None and "" want any. Times are seconds since 1970, ``until`` not included.

    ``name``: a part of it, "*.a.example" for all below it, ".a.example" for it and all below it. ``client``,
    ``user``, ``rule``, ``service``, ``device`` and ``reference`` are the whole text. ``text``: a part of any
    of them but the last, or a kind.
    """

    since: float | None = None
    until: float | None = None
    client: str = ""
    user: str = ""
    name: str = ""
    rule: str = ""
    service: str = ""
    device: str = ""
    reference: str = ""
    kind: str = ""
    outcome: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, newest first, as dictionaries of what ``Row`` has and the row's ``id``.

    ``cursor``: for the next page, "" after the last. ``searched``: down to which time rows were looked at, in
    milliseconds; 0 where there are no older ones.
    """

    rows: list[dict[str, Any]]
    cursor: str
    searched: int


def bounded(database: sqlite3.Connection, clock: Callable[[], float]) -> None:
    """Let each question on this connection end after QUESTION_SECONDS, with sqlite3.OperationalError."""
    deadline = clock() + QUESTION_SECONDS
    database.set_progress_handler(lambda: int(clock() > deadline), _STEPS)


def _escaped(part: str) -> str:
    return part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _name_patterns(name: str) -> list[str]:
    name = name.lower()
    if name.startswith("*."):
        return [f"%{_escaped(name[1:])}"]
    if name.startswith("."):
        return [_escaped(name[1:]), f"%{_escaped(name)}"]
    return [f"%{_escaped(name)}%"]


class _Words:
    """The texts of a column that are wanted: their numbers, or None where they are too many to look each up.

    ``condition`` is SQL that holds for a row which has one of them.
    """

    def __init__(self, numbers: set[int] | None, condition: str) -> None:
        self.numbers = numbers
        self.condition = condition


@dataclass(slots=True)
class _Wanted:
    """The filters as SQL. ``narrow`` holds without looking at texts; ``values`` are of all conditions.

    ``words`` have all to be there, by column; of ``anywhere`` one, where it is not None.
    """

    narrow: list[str]
    values: dict[str, Any]
    words: dict[str, _Words]
    anywhere: dict[str, _Words] | None = None
    outcome: int | None = None
    by_reference: bool = False

    def exactly(self, database: sqlite3.Connection, column: str, text: str) -> _Words:
        """The one text itself."""
        found = database.execute(
            "SELECT id FROM word WHERE kind = ? AND text = ?", (KIND[column], text)
        ).fetchone()
        numbers = {int(found[0])} if found else set()
        return _Words(numbers, f"{column} IN ({_listed(numbers)})")

    def like(self, database: sqlite3.Connection, column: str, patterns: list[str]) -> _Words:
        """The texts that fit one of the patterns of LIKE."""
        names = []
        for pattern in patterns:
            names.append(f"like{len(self.values)}")
            self.values[names[-1]] = pattern
        fits = " OR ".join(f"text LIKE :{name} ESCAPE '\\'" for name in names)
        query = f"SELECT id FROM word WHERE kind = {KIND[column]} AND ({fits})"  # noqa: S608
        rows = database.execute(f"{query} LIMIT {MAX_LOOKED_UP + 1}", self.values)
        numbers = {int(row[0]) for row in rows}
        if len(numbers) > MAX_LOOKED_UP:
            return _Words(None, f"{column} IN ({query})")
        return _Words(numbers, f"{column} IN ({_listed(numbers)})")

    def conditions(self, driver: str = "") -> str:
        """All of it, but for what is true of each row that ``driver`` leads to: a column, or ANYWHERE."""
        parts = [*self.narrow, *(words.condition for key, words in self.words.items() if key != driver)]
        if self.anywhere is not None and driver != ANYWHERE:
            parts.append(f"({' OR '.join(words.condition for words in self.anywhere.values())})")
        return " AND ".join(parts) or "1"

    @property
    def nobody(self) -> bool:
        """No row can fulfil it."""
        return self.anywhere == {} or any(words.numbers == set() for words in self.words.values())


@dataclass(frozen=True, slots=True)
class _Plan:
    """Rows are found by their (column, number of a text); ``driver``: the filter that this fulfils."""

    driver: str
    places: list[tuple[str, int]]


def _listed(numbers: set[int]) -> str:
    return ",".join(map(str, sorted(numbers)))


def _wanted(database: sqlite3.Connection, filters: Filters) -> _Wanted:
    wanted = _Wanted([], {}, {})
    for text in _typed(filters):
        if len(text) > MAX_TEXT:
            raise QueryError(f"what is searched for has {len(text)} signs", f"Give at most {MAX_TEXT}.")
    for column in ("client", "user", "rule", "service", "device", "kind"):
        text = getattr(filters, column)
        if text:
            wanted.words[column] = wanted.exactly(database, column, text)
    if filters.name:
        wanted.words["name"] = wanted.like(database, "name", _name_patterns(filters.name))
    if filters.outcome:
        if filters.outcome not in list(OUTCOMES):
            words = f"“{filters.outcome}” is no outcome"
            raise QueryError(words, f"One of {', '.join(OUTCOMES)}.")
        wanted.outcome = [str(outcome) for outcome in OUTCOMES].index(filters.outcome)
        wanted.narrow.append(f"outcome = {wanted.outcome}")
    if filters.text:
        like = [f"%{_escaped(filters.text)}%"]
        anywhere = {column: wanted.like(database, column, like) for column in _FREE}
        anywhere["kind"] = wanted.exactly(database, "kind", filters.text.lower())
        wanted.anywhere = {column: words for column, words in anywhere.items() if words.numbers != set()}
    if filters.reference:
        wanted.by_reference = True
        wanted.narrow.append("reference = :reference")
        wanted.values["reference"] = filters.reference.upper()
    if filters.since is not None:
        wanted.narrow.append("time >= :since")
        wanted.values["since"] = milliseconds(filters.since)
    if filters.until is not None:
        wanted.narrow.append("time < :until")
        wanted.values["until"] = milliseconds(filters.until)
    return wanted


def milliseconds(seconds: float) -> int:
    """A time from outside; QueryError where it is none."""
    if not abs(seconds) < MAX_NUMBER / 1000:
        raise QueryError(f"{seconds} is no time", "Give seconds since 1970.")
    return int(seconds * 1000)


def _cursor(text: str) -> tuple[int, int]:
    time, dash, number = text.partition("-")
    if not (dash and time.isascii() and time.isdecimal() and number.isascii() and number.isdecimal()):
        raise QueryError("this is no cursor of a page", "Begin without one.")
    found = int(time[:20]), int(number[:20])
    if max(found) > MAX_NUMBER:
        raise QueryError("this is no cursor of a page", "Begin without one.")
    return found


def search(database: sqlite3.Connection, filters: Filters, cursor: str = "", limit: int = 50) -> Page:
    """A page of at most ``limit`` rows; QueryError where that cannot be."""
    if not 1 <= limit <= MAX_PAGE:
        raise QueryError(f"{limit} rows are no page", f"1 to {MAX_PAGE}.")
    wanted = _wanted(database, filters)
    if cursor:
        wanted.narrow.append("(time, id) < (:before, :before_id)")
        wanted.values["before"], wanted.values["before_id"] = _cursor(cursor)
    # No row holds a NUL, and SQLite's LIKE takes one for the pattern's end.
    if wanted.nobody or any("\0" in value for value in _typed(filters)):
        return Page([], "", 0)
    plan = None if wanted.by_reference else _lookups(wanted)
    if plan is not None:
        rows, last = _look_up(database, wanted, plan, limit), None
    else:
        rows, last = _scan(database, wanted, limit)
    if len(rows) == limit:
        last = (rows[-1][_AT["time"]], rows[-1][0])
    return Page(_readable(database, rows), f"{last[0]}-{last[1]}" if last else "", last[0] if last else 0)


def _typed(filters: Filters) -> list[str]:
    """What was typed into the filters."""
    return [value for value in asdict(filters).values() if isinstance(value, str)]


def _lookups(wanted: _Wanted) -> _Plan | None:
    """How rows are looked up; None where all rows are gone through by time."""
    plans = [
        _Plan(column, [(column, number) for number in words.numbers])
        for column, words in wanted.words.items()
        if column in _INDEXED and words.numbers is not None
    ]
    anywhere = wanted.anywhere
    if anywhere is not None and "kind" not in anywhere and None not in [w.numbers for w in anywhere.values()]:
        places = [(column, number) for column, words in anywhere.items() for number in words.numbers or ()]
        plans.append(_Plan(ANYWHERE, places))
    best = min(plans, key=_cost, default=None)
    return best if best is not None and len(best.places) <= MAX_LOOKED_UP else None


def _cost(plan: _Plan) -> int:
    """A rule or a service may be that of nearly all rows: better is whatever else there is."""
    return len(plan.places) + (MAX_LOOKED_UP if plan.driver in _COARSE else 0)


def _look_up(database: sqlite3.Connection, wanted: _Wanted, plan: _Plan, limit: int) -> list[tuple[Any, ...]]:
    conditions = wanted.conditions(plan.driver)
    found: list[list[tuple[int, int]]] = []
    for column, number in plan.places:
        partial = f" AND {column} != 0" if column in _PARTIAL else ""
        # Where and when is in the index: the rows themselves are read for those alone that are shown.
        query = (
            f"SELECT time, id FROM session INDEXED BY session_{column} "  # noqa: S608
            f"WHERE {column} = {number}{partial} AND {conditions} ORDER BY time DESC, id DESC LIMIT {limit}"
        )
        found.append(database.execute(query, wanted.values).fetchall())
    # Once, where two columns led to it.
    newest = islice((place for place, _same in groupby(merge(*found, reverse=True))), limit)
    numbers = {number for _time, number in newest}
    return database.execute(
        f"{_SELECT} WHERE id IN ({_listed(numbers)}) ORDER BY time DESC, id DESC"
    ).fetchall()


def _scan(
    database: sqlite3.Connection, wanted: _Wanted, limit: int
) -> tuple[list[tuple[Any, ...]], tuple[int, int] | None]:
    """Through the rows by time; (rows, the last one that was looked at where there are older ones)."""
    # What was carried is nearly all: its index would be of no use, and there is none.
    index, partial = ("session_outcome", " AND outcome != 0") if wanted.outcome else ("session_time", "")
    if wanted.by_reference:  # there is one row of it, or none
        index, partial = "session_reference", " AND reference != ''"
    narrow = (" AND ".join(wanted.narrow) or "1") + partial
    end = None
    bound = ""
    if wanted.words or wanted.anywhere is not None:
        end = database.execute(
            f"SELECT time, id FROM session INDEXED BY {index} WHERE {narrow} "  # noqa: S608
            f"ORDER BY time DESC, id DESC LIMIT 1 OFFSET {SCAN_ROWS}",
            wanted.values,
        ).fetchone()
    if end is not None:
        bound = " AND (time, id) >= (:end, :end_id)"
        wanted.values["end"], wanted.values["end_id"] = end
    rows = database.execute(
        f"{_SELECT} INDEXED BY {index} WHERE {wanted.conditions()}{partial}{bound} "
        f"ORDER BY time DESC, id DESC LIMIT {limit}",
        wanted.values,
    ).fetchall()
    return rows, end


def _readable(database: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Rows with their texts."""
    places = [(name, _AT[name]) for name in KIND]
    texts = _texts(database, {row[place] for row in rows for _name, place in places})
    out = []
    for row in rows:
        made = dict(zip(("id", *_COLUMNS), row, strict=True))
        for name, place in places:
            made[name] = texts.get(row[place], "")
        made["outcome"] = str(OUTCOMES[made["outcome"]])
        out.append(made)
    return out


def _texts(database: sqlite3.Connection, numbers: set[int]) -> dict[int, str]:
    out: dict[int, str] = {}
    wanted = iter(numbers)
    while some := list(islice(wanted, 500)):
        marks = ",".join("?" * len(some))
        out.update(database.execute(f"SELECT id, text FROM word WHERE id IN ({marks})", some))  # noqa: S608
    return out
