"""The database: rows and sums that agree, bounds, and what a disk can do to it."""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from appliance.session import history
from appliance.session.history import (
    BY,
    DAY,
    HOUR,
    KEPT_WORDS,
    MAX_BATCH,
    Place,
    Store,
    is_broken,
    open_reader,
)
from appliance.session.queries import Filters, search
from appliance.session.sums import OTHER_WORD, series, top
from tests.unit.session.rows import DENIED, row, traffic

BEGIN = 1_800_000_000
PLACE = Place(1, 100, "first", 5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "history.db")) as made:
        yield made


def reader(tmp_path: Path) -> Any:
    """A connection as control's questions have it."""
    return closing(open_reader(tmp_path / "history.db"))


def test_rows_and_the_place_are_kept(store: Store, tmp_path: Path) -> None:
    assert store.place() is None
    store.add([row(), row(DENIED)], PLACE)
    store.close()
    with closing(Store(tmp_path / "history.db")) as again:
        assert again.place() == PLACE
        assert again.rows == 2
    with reader(tmp_path) as database:
        newest, oldest = search(database, Filters()).rows
    assert (newest["name"], newest["outcome"], newest["rule"]) == ("ads.b.example", "denied", "no-ads")
    assert {key: oldest[key] for key in ("client", "server", "time", "age", "to_lan", "user")} == {
        "client": "fd00:1::2", "server": "64:ff9b::c01f:c450", "time": 1_800_000_000_250, "age": 1_500,
        "to_lan": 20_000, "user": "",
    }  # fmt: skip


def test_sums_agree_with_the_rows(store: Store, tmp_path: Path) -> None:
    rows = list(traffic(3_000, BEGIN, 3 * DAY, names=300))
    for start in range(0, len(rows), 700):
        store.add(rows[start : start + 700], PLACE)
    with reader(tmp_path) as database:
        for by in BY[1:]:
            wanted: Counter[str] = Counter()
            for one in rows:
                if getattr(one, by):
                    wanted[getattr(one, by)] += one.to_wan + one.to_lan
            found = top(database, by, BEGIN, BEGIN + 3 * DAY, limit=1_000)
            assert {one["key"]: one["to_wan"] + one["to_lan"] for one in found} == dict(wanted)
            octets = [one["to_wan"] + one["to_lan"] for one in found]
            assert octets == sorted(octets, reverse=True)
        points = series(database, None, "", BEGIN, BEGIN + 3 * DAY, HOUR)
        assert sum(point["sessions"] for point in points) == len(rows)
        assert sum(point["refused"] for point in points) == sum(one.outcome != "carried" for one in rows)
        for client in ("fd00:1::2f", "fd00:1::30"):
            days = series(database, "client", client, BEGIN, BEGIN + 3 * DAY, DAY)
            hours = series(database, "client", client, BEGIN // DAY * DAY, BEGIN + 4 * DAY, HOUR)
            for day in days:
                inside = [p for p in hours if day["start"] <= p["start"] < day["start"] + DAY]
                assert day["to_lan"] == sum(point["to_lan"] for point in inside)


def test_top_of_some_hours_does_not_count_the_others(store: Store, tmp_path: Path) -> None:
    for hour in range(60):
        store.add([row(time=BEGIN // DAY * DAY + hour * HOUR + 1, bytes_to_wan=1, bytes_to_lan=0)], PLACE)
    with reader(tmp_path) as database:
        for first, behind in itertools.combinations((0, 1, 5, 24, 30, 47, 48, 59), 2):
            since, until = (BEGIN // DAY * DAY + hour * HOUR for hour in (first, behind))
            (found,) = top(database, "client", since, until)
            assert found["sessions"] == behind - first
        assert top(database, "client", BEGIN, BEGIN) == top(database, "client", BEGIN, BEGIN - HOUR) == []


def test_the_oldest_rows_go_first(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "history.db", max_rows=100)) as store:
        store.add([row(time=BEGIN + number) for number in range(250)], PLACE)
        assert store.trim(0) == 150
        assert store.trim(0) == 0
        assert store.trim(BEGIN + 200) == 50  # by their age
        assert store.trim(0, surplus=7) == 7  # on a full disk
        assert store.rows == 43
    with reader(tmp_path) as database:
        times = [one["time"] // 1000 - BEGIN for one in search(database, Filters(), limit=100).rows]
        assert times == list(range(249, 206, -1))
        # The sums stay.
        points = series(database, None, "", BEGIN, BEGIN + HOUR, HOUR)
        assert sum(point["sessions"] for point in points) == 250


def test_octets_are_bounded_too(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "history.db", max_bytes=200_000)) as store:
        store.add(list(traffic(3_000, seconds=HOUR, names=50)), PLACE)
        assert store.octets() > 200_000
        while store.trim(0):
            pass
        assert store.octets() <= 200_000


def test_a_name_is_forgotten_with_its_last_row(store: Store, tmp_path: Path) -> None:
    """Retention is a promise: neither the file nor the log beside it holds the name any more."""
    store.add([row(name="secret-name.example", user="secret-user", client="fd00:1::5ec")], PLACE)
    store.add([row(time=BEGIN + 40 * DAY)], PLACE)
    now, oldest = BEGIN + 40.5 * DAY, BEGIN + 10.0 * DAY
    assert store.trim(oldest) == 1
    store.tidy(now, oldest)
    store.checkpoint()
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (b"secret-name", b"secret-user", b"fd00:1::5ec"):
        assert secret not in data
    assert b"www.a.example" in data
    with reader(tmp_path) as database:
        assert [one["key"] for one in top(database, "client", BEGIN, now)] == ["fd00:1::2"]
        # How much there was in all, and by which rule, says nothing of persons and stays.
        assert top(database, "rule", BEGIN, now)[0]["sessions"] == 2


@pytest.mark.parametrize(
    "kind", ["client", "origin", "service", "name", "user", "rule", "device", "dns_name"]
)
def test_what_a_row_speaks_of_is_never_forgotten(store: Store, tmp_path: Path, kind: str) -> None:
    """A text's number would be the next new text's: somebody else's name or address in an old row."""
    value = {"client": "fd00:1::77", "origin": "192.0.2.77"}.get(kind, "the-only-one")
    spoken: dict[str, Any] = {kind: value}
    store.add([row(**spoken)], PLACE)
    store.tidy(BEGIN + HOUR, 0)
    store.add([row(client="fd00:1::bad", name="other.example", time=BEGIN - 9)], PLACE)
    with reader(tmp_path) as database:
        newest = search(database, Filters()).rows[0]
    assert newest[kind] == value


def test_a_name_that_comes_again_after_it_was_forgotten(store: Store, tmp_path: Path) -> None:
    for round_ in range(3):
        store.add([row(time=BEGIN + round_ * 40 * DAY)], PLACE)
        store.trim(BEGIN + round_ * 40.0 * DAY)
        store.tidy(BEGIN + round_ * 40.0 * DAY, BEGIN + round_ * 40.0 * DAY - HOUR)
    with reader(tmp_path) as database:
        (found,) = search(database, Filters(name="a.example")).rows
        assert found["client"] == "fd00:1::2"


def test_an_hour_with_too_many_names_keeps_those_with_most(store: Store, tmp_path: Path) -> None:
    count = KEPT_WORDS + 500
    start = BEGIN // HOUR * HOUR
    rows = [row(time=start, name=f"host{n}.example", bytes_to_wan=n, bytes_to_lan=0) for n in range(count)]
    store.add(rows, PLACE)
    store.tidy(start + HOUR, 0)
    with reader(tmp_path) as database:
        found = top(database, "name", start, start + HOUR, "sessions", limit=1_000)
        assert found[0] == {"key": OTHER_WORD, "sessions": 500, "refused": 0, "to_wan": 124_750, "to_lan": 0}
        assert len(found) == 1_000
        (most,) = top(database, "name", start, start + HOUR, "to_wan", limit=2)[1:]
        assert most["key"] == f"host{count - 1}.example"
        (point,) = series(database, "name", OTHER_WORD, start, start + HOUR, HOUR)
        assert point["sessions"] == 500


def test_a_full_disk_changes_nothing_and_is_got_over(store: Store, tmp_path: Path) -> None:
    store.add([row()], PLACE)
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.add(list(traffic(MAX_BATCH, names=50)), Place(1, 999, "first", 6))
    assert store.place() == PLACE
    assert store.rows == 1
    store._db.execute("PRAGMA max_page_count = 1000000")
    store.add(list(traffic(500, names=50)), Place(1, 999, "first", 6))
    with reader(tmp_path) as database:
        assert len(search(database, Filters(), limit=1_000).rows) == 501
        # The texts that the failed batch had made and lost are there again.
        assert all(one["client"] for one in search(database, Filters(), limit=1_000).rows)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    path.write_bytes(b"rubbish" * 1_000)
    with pytest.raises(sqlite3.DatabaseError) as told:
        Store(path)
    assert is_broken(told.value)


@pytest.mark.parametrize("version", [0, history._SCHEMA_VERSION + 1])
def test_somebody_elses_database_is_told(tmp_path: Path, version: int) -> None:
    path = tmp_path / "history.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE something (x)")
        database.execute(f"PRAGMA user_version = {version}")
        database.commit()
    with pytest.raises(sqlite3.DatabaseError) as told:
        Store(path)
    assert is_broken(told.value)


def test_pages_that_were_overwritten_are_told(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    store.add(list(traffic(2_000)), PLACE)
    store.checkpoint()
    store.close()
    with path.open("r+b") as file:
        size = path.stat().st_size
        for page in range(4_096, size, 4_096):
            file.seek(page)
            file.write(b"\xa5" * 4_096)
    with pytest.raises(sqlite3.DatabaseError) as told, closing(Store(path)) as broken:
        broken.add(list(traffic(100)), PLACE)  # if it was not found out before
    assert is_broken(told.value)


def test_a_reader_changes_nothing(store: Store, tmp_path: Path) -> None:
    store.add([row()], PLACE)
    with reader(tmp_path) as database, pytest.raises(sqlite3.OperationalError, match="readonly"):
        database.execute("DELETE FROM session")


def test_a_database_of_the_version_before_is_taken_over(tmp_path: Path) -> None:
    """Nothing of it is lost, and it takes what is new."""
    path = tmp_path / "history.sqlite"
    store = Store(path)
    store.add([row(name="old.example")], Place(1, 1, "", 0))
    store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for index in ("session_device", "session_reference", "session_dns_name"):
            database.execute(f"DROP INDEX {index}")
        for column in ("device", "dns_name", "reference"):
            database.execute(f"ALTER TABLE session DROP COLUMN {column}")
        database.execute("PRAGMA user_version = 1")
    store = Store(path)
    store.add([row(name="new.example", device="tv", reference="AB")], Place(1, 2, "", 0))
    with closing(open_reader(path)) as reader:
        found = search(reader, Filters()).rows
        assert {one["name"]: one["device"] for one in found} == {"old.example": "", "new.example": "tv"}
        assert [one["name"] for one in search(reader, Filters(reference="ab")).rows] == ["new.example"]
        assert [one["name"] for one in search(reader, Filters(device="tv")).rows] == ["new.example"]
        assert top(reader, "device", 1.7e9, 1.9e9)[0]["key"] == "tv"
    store.close()
