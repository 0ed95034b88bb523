"""Searches: the same rows as a walk through all of them finds, page by page, however they are found."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.session import queries
from appliance.session.history import DAY, HOUR, Place, Store, open_reader
from appliance.session.queries import Filters, QueryError, bounded, search
from appliance.session.row import Row
from appliance.session.sums import series, top
from tests.unit.session.rows import row, traffic

BEGIN = 1_800_000_000
ROWS = [
    *traffic(1_500, BEGIN, DAY, names=200),
    *(row(time=BEGIN + HOUR, name=f"a_b%c{number}.example") for number in range(3)),  # at the same moment
    row(time=BEGIN + 2 * HOUR, name="", kind="icmp"),
]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("queries") / "history.db"
    with closing(Store(path)) as store:
        store.add(ROWS, Place(1, 1, "", 1))
    with closing(open_reader(path)) as found:
        yield found


def all_pages(database: sqlite3.Connection, filters: Filters, limit: int) -> list[dict[str, Any]]:
    """Every row, by its pages; none may be longer than it should or lead back."""
    found: list[dict[str, Any]] = []
    cursor = ""
    for _ in range(5_000):
        page = search(database, filters, cursor, limit)
        assert len(page.rows) <= limit
        found += page.rows
        if not page.cursor:
            return found
        assert page.cursor != cursor
        cursor = page.cursor
    raise AssertionError("pages without end")


def fits(one: Row, filters: Filters) -> bool:
    """What the docstring of Filters says."""
    name, wanted = one.name, filters.name.lower()
    if wanted.startswith("*."):
        named = name.endswith(wanted[1:])
    elif wanted.startswith("."):
        named = name.endswith(wanted) or name == wanted[1:]
    else:
        named = wanted in name
    texts = (one.name, one.client, one.origin, one.user, one.rule, one.service)
    return (
        named
        and (filters.since is None or one.time >= filters.since * 1000)
        and (filters.until is None or one.time < filters.until * 1000)
        and all(
            not getattr(filters, key) or getattr(filters, key) == getattr(one, key)
            for key in ("client", "user", "rule", "service", "kind", "outcome")
        )
        and (
            not filters.text
            or any(filters.text.lower() in text for text in texts)
            or filters.text == one.kind
        )
    )


def _some(*values: str) -> st.SearchStrategy[str]:
    return st.sampled_from(("", "", "", *values))


FILTERS = st.builds(
    Filters,
    since=st.none() | st.integers(BEGIN - 10, BEGIN + DAY + 10),
    until=st.none() | st.integers(BEGIN - 10, BEGIN + DAY + 10),
    client=_some("fd00:1::2f", "fd00:1::31", "fd00:1::ffff"),
    user=_some("ann", "bob", "nobody"),
    name=_some("host1", "example", "*.zone7.example", ".host7.zone7.example", "HOST12.", "_b%", "%"),
    rule=_some("staff", "default"),
    service=_some("http"),
    kind=_some("tcp", "udp", "icmp", "sctp"),
    outcome=_some("carried", "denied", "failed", "refused"),
    text=_some("host1", "192.31.0.", "udp", "ann", "staff", "no such thing", "_"),
)


@settings(deadline=None)
@given(
    FILTERS, st.sampled_from([50, 1_000]), st.sampled_from([0, 5, 10_000]), st.sampled_from([200, 100_000])
)
def test_a_search_finds_what_fits(
    database: sqlite3.Connection, filters: Filters, limit: int, looked_up: int, scanned: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queries, "MAX_LOOKED_UP", looked_up)
        patch.setattr(queries, "SCAN_ROWS", scanned)
        found = all_pages(database, filters, limit)
    wanted = sorted(
        ((one.time, number + 1) for number, one in enumerate(ROWS) if fits(one, filters)), reverse=True
    )
    assert [(one["time"], one["id"]) for one in found] == wanted


def test_a_rare_thing_is_searched_for_piece_by_piece(
    database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "SCAN_ROWS", 100)
    page = search(database, Filters(kind="icmp"))
    assert page.rows == [] and page.cursor
    assert page.searched == sorted((one.time for one in ROWS), reverse=True)[100]
    (found,) = all_pages(database, Filters(kind="icmp"), 50)
    assert found["kind"] == "icmp"
    assert search(database, Filters(kind="sctp")).cursor == "", "no row at all has it"


@pytest.mark.parametrize("limit", [0, -1, 1_001])
def test_no_page(database: sqlite3.Connection, limit: int) -> None:
    with pytest.raises(QueryError):
        search(database, Filters(), limit=limit)


@pytest.mark.parametrize("cursor", ["x", "1", "1-", "-1", "1-x", "1-2-3", "١-١", f"{10**19}-1", "1 OR 1=1-1"])
def test_no_cursor(database: sqlite3.Connection, cursor: str) -> None:
    with pytest.raises(QueryError, match="cursor"):
        search(database, Filters(), cursor)


@pytest.mark.parametrize(
    "filters",
    [
        Filters(outcome="well"),
        Filters(text="a" * 600),
        Filters(since=float("nan")),
        Filters(until=float("inf")),
        Filters(since=1e30),
    ],
)
def test_no_filter(database: sqlite3.Connection, filters: Filters) -> None:
    with pytest.raises(QueryError):
        search(database, filters)


def test_no_sums(database: sqlite3.Connection) -> None:
    for by in ("all", "client; DROP TABLE word", ""):
        with pytest.raises(QueryError, match="nothing to sum by"):
            top(database, by, BEGIN, BEGIN + DAY)
    with pytest.raises(QueryError, match="measure"):
        top(database, "client", BEGIN, BEGIN + DAY, "1; DROP TABLE word")
    with pytest.raises(QueryError):
        top(database, "client", BEGIN, BEGIN + DAY, limit=0)
    for step in (0, 60, HOUR + 1):
        with pytest.raises(QueryError, match="step"):
            series(database, None, "", BEGIN, BEGIN + DAY, step)
    for until in (BEGIN - DAY, BEGIN + 4_000 * DAY, 1e30):
        with pytest.raises(QueryError):
            series(database, None, "", BEGIN, until, HOUR)


@given(st.text(max_size=30))
@example("\0")  # the end of a pattern to SQLite: it would match every row
@settings(deadline=None)
def test_whatever_is_typed_is_only_searched_for(database: sqlite3.Connection, text: str) -> None:
    for filters in (Filters(text=text), Filters(name=text), Filters(client=text)):
        for one in search(database, filters, limit=5).rows:
            assert fits(ROWS[one["id"] - 1], filters) or not text.isascii() or text.rstrip(".") != text


def test_a_question_that_takes_too_long_ends(database: sqlite3.Connection) -> None:
    moments = iter([0.0])
    bounded(database, lambda: next(moments, 1e9))
    try:
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            database.execute("SELECT count(*) FROM session a, session b, session c").fetchone()
    finally:
        database.set_progress_handler(None, 0)
