"""How long questions take with a million rows. It prints; what it asserts is that there are answers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from appliance.session.history import DAY, HOUR, MAX_BATCH, Place, Store, open_reader
from appliance.session.queries import Filters, search
from appliance.session.sums import series, top
from tests.unit.session.rows import traffic

pytestmark = pytest.mark.slow

ROWS = 1_000_000
BEGIN = 1_800_000_000
WEEK = 7 * DAY
SEARCHES = {
    "the newest": Filters(),
    "a client": Filters(client="fd00:1::2f"),
    "a user": Filters(user="ann"),
    "a rule": Filters(rule="staff"),
    "denied": Filters(outcome="denied"),
    "denied, of a client": Filters(outcome="denied", client="fd00:1::2f"),
    "a part of most names": Filters(name="example"),
    "a part of few names": Filters(name="host4999"),
    "all below a name": Filters(name="*.zone5.example"),
    "a client's, by a name, in a day": Filters(
        client="fd00:1::2f", name="host1", since=BEGIN + DAY, until=BEGIN + 2 * DAY
    ),
    "text that is everywhere": Filters(text="example"),
    "text that is rare": Filters(text="host313"),
    "an address's part": Filters(text="192.31.7."),
    "a user's that failed, by text": Filters(user="ann", outcome="failed", text="host4"),
}


def test_a_million_rows(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    rows = traffic(ROWS, BEGIN, WEEK)
    spent = 0.0
    with closing(Store(path)) as store:
        while batch := list(itertools.islice(rows, MAX_BATCH)):
            begun = time.process_time()
            store.add(batch, Place(1, 1, "", 1))
            spent += time.process_time() - begun
        store.checkpoint()
    print(f"\ntaking in: {ROWS / spent:,.0f} rows a second of one processor")
    print(f"the file: {path.stat().st_size / ROWS:.0f} octets a row")
    middle = f"{(BEGIN + WEEK // 2) * 1000}-{ROWS // 2}"
    with closing(open_reader(path)) as database:
        for what, filters in SEARCHES.items():
            _timed(what, lambda filters=filters: search(database, filters).rows)  # type: ignore[misc]
            _timed(f"{what}, older", lambda filters=filters: search(database, filters, middle).rows)  # type: ignore[misc]
        for by in ("client", "name", "user", "rule"):
            _timed(f"top of a week by {by}", lambda by=by: top(database, by, BEGIN, BEGIN + WEEK))  # type: ignore[misc]
        _timed("a week's hours", lambda: series(database, None, "", BEGIN, BEGIN + WEEK, HOUR))


def _timed(what: str, ask: Callable[[], list[Any]]) -> None:
    spent = []
    for _ in range(5):
        begun = time.perf_counter()
        found = ask()
        spent.append(time.perf_counter() - begun)
    print(f"{what:<42}{sorted(spent)[2] * 1000:8.1f} ms")
    assert found
