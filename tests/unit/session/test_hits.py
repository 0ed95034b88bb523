"""Hits of rules and lists: of the day, of all, over workers and restarts."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from threading import Thread

from appliance.session.hits import LIST, RULE, Hit, Hits

NOON = datetime(2026, 11, 25, 12, 0)


def test_counted_over_workers_days_and_restarts(tmp_path: Path) -> None:
    path = tmp_path / "proxy" / "hits"
    first, second = Hits(path, 0), Hits(path, 1)
    first.add(RULE, {"no-ads": 2, "default": 1}, NOON)
    second.add(RULE, {"no-ads": 3}, NOON)
    second.add(LIST, {"no-ads": 4}, NOON)
    first.close()
    second.close()
    again = Hits(path, 0)
    assert again.all(NOON) == [
        Hit(RULE, "no-ads", 5, 5), Hit(RULE, "default", 1, 1), Hit(LIST, "no-ads", 4, 4),
    ]  # fmt: skip
    tomorrow = NOON + timedelta(days=1)
    again.add(RULE, {"no-ads": 1}, tomorrow)
    assert again.all(tomorrow)[0] == Hit(RULE, "no-ads", 1, 6)
    assert again.all(tomorrow)[1] == Hit(RULE, "default", 0, 1)
    again.close()


def test_two_that_share_a_cell_lose_none(tmp_path: Path) -> None:
    """A worker that drains and its heir; the last worker and the DNS front's."""
    path, each = tmp_path / "hits", 2_000

    def count() -> None:
        hits = Hits(path, 5)
        for _ in range(each):
            hits.add(RULE, {"no-ads": 1}, NOON)
        hits.close()

    threads = [Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hits = Hits(path, 0)
    assert hits.all(NOON) == [Hit(RULE, "no-ads", 3 * each, 3 * each)]
    hits.close()
