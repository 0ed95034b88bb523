"""Who had most, and how it went over time: questions to the history's roll-ups."""

from __future__ import annotations

import sqlite3
from typing import Any

from appliance.session.history import BY, DAY, HOUR, KIND, NO_WORD, OTHER
from appliance.session.queries import MAX_PAGE, QueryError, milliseconds

MAX_POINTS = 2_000
# By what "most" is measured, and the sum of it.
MEASURES = {
    "sessions": "sum(sessions)",
    "refused": "sum(refused)",
    "octets": "sum(to_wan + to_lan)",
    "to_wan": "sum(to_wan)",
    "to_lan": "sum(to_lan)",
}
# What the roll-ups of a long time call those that had too little to be named.
OTHER_WORD = "(other)"
_AMOUNTS = ("sessions", "refused", "to_wan", "to_lan")
_SUMS = ", ".join(f"sum({name})" for name in _AMOUNTS)


def _seconds(time: float) -> int:
    return milliseconds(time) // 1000


def _spans(since: float, until: float) -> list[tuple[int, int, int]]:
    """(step, first, behind the last) that cover the hours of a time: days inside, hours at its ends."""
    first = _seconds(since) // HOUR * HOUR
    behind = -(-_seconds(until) // HOUR) * HOUR
    first_day, behind_day = -(-first // DAY) * DAY, behind // DAY * DAY
    if first_day >= behind_day:
        return [(HOUR, first, behind)]
    spans = [(HOUR, first, first_day), (DAY, first_day, behind_day), (HOUR, behind_day, behind)]
    return [span for span in spans if span[1] < span[2]]


def _by(name: str) -> int:
    if name not in BY[1:]:
        raise QueryError(f"“{name}” is nothing to sum by", f"One of {', '.join(BY[1:])}.")
    return BY.index(name)


def top(
    database: sqlite3.Connection,
    by: str,
    since: float,
    until: float,
    measure: str = "octets",
    limit: int = 10,
) -> list[dict[str, Any]]:
    """Those with most of ``measure``, most first: ``key`` and the four sums. Whole hours, in UTC.

    ``by`` is one of BY without "all". Where a time had too many, the least are "(other)".
    """
    number = _by(by)
    if measure not in MEASURES:
        raise QueryError(f"“{measure}” is no measure", f"One of {', '.join(MEASURES)}.")
    if not 1 <= limit <= MAX_PAGE:
        raise QueryError(f"{limit} is no number of rows", f"1 to {MAX_PAGE}.")
    parts, values = [], []
    for step, first, behind in _spans(since, until):
        parts.append(
            "SELECT word, sessions, refused, to_wan, to_lan FROM rollup "
            "WHERE step = ? AND by = ? AND start >= ? AND start < ?"
        )
        values += [step, number, first, behind]
    if not parts:
        return []
    rows = database.execute(
        f"SELECT word, {_SUMS} FROM ({' UNION ALL '.join(parts)}) GROUP BY word "  # noqa: S608
        f"ORDER BY {MEASURES[measure]} DESC, word LIMIT ?",
        (*values, limit),
    ).fetchall()
    marks = ",".join("?" * len(rows))
    texts = dict(
        database.execute(f"SELECT id, text FROM word WHERE id IN ({marks})", [row[0] for row in rows])  # noqa: S608
    )
    return [
        {
            "key": OTHER_WORD if row[0] == OTHER else texts.get(row[0], ""),
            **dict(zip(_AMOUNTS, row[1:], strict=True)),
        }
        for row in rows
    ]


def series(
    database: sqlite3.Connection, by: str | None, key: str, since: float, until: float, step: int
) -> list[dict[str, Any]]:
    """Sums of each ``step`` seconds (a multiple of an hour) from ``since`` on, also where nothing was.

    Of all sessions, or of those whose ``by`` is ``key``. ``start`` is seconds since 1970.
    """
    if step < HOUR or step % HOUR:
        raise QueryError(f"{step} s is no step of a chart", f"A multiple of {HOUR}.")
    kept = DAY if step % DAY == 0 else HOUR
    first = _seconds(since) // step * step
    behind = -(-_seconds(until) // step) * step
    if not 0 < (behind - first) // step <= MAX_POINTS:
        raise QueryError(
            f"{(behind - first) // step} points are no chart",
            f"1 to {MAX_POINTS}: change the step or the time.",
        )
    number, word = 0, NO_WORD
    if by is not None:
        number = _by(by)
        found = database.execute(
            "SELECT id FROM word WHERE kind = ? AND text = ?", (KIND[by], key)
        ).fetchone()
        word = found[0] if found else OTHER if key == OTHER_WORD else NO_WORD
    rows = database.execute(
        f"SELECT start / ? * ?, {_SUMS} FROM rollup INDEXED BY rollup_word "  # noqa: S608
        "WHERE word = ? AND by = ? AND step = ? AND start >= ? AND start < ? GROUP BY 1",
        (step, step, word, number, kept, first, behind),
    )
    sums = {row[0]: row[1:] for row in rows}
    nothing = (0,) * len(_AMOUNTS)
    return [
        {"start": start, **dict(zip(_AMOUNTS, sums.get(start, nothing), strict=True))}
        for start in range(first, behind, step)
    ]
