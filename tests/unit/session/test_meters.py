"""Counters that workers share: sums over them, days that end, restarts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.session import meters
from appliance.session.meters import Meters, Period, Reading, period_of

TODAY = Period(100, 24_311)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "meters"


def test_what_workers_count_is_summed(path: Path) -> None:
    one, two = Meters(path, 0), Meters(path, 5)
    place = one.meter("day", "fd00:1::2")
    assert two.meter("day", "fd00:1::2") == place
    one.add(place, 100, TODAY)
    two.add(place, 20, TODAY)
    two.add(place, 3, TODAY)
    one.set_sessions(place, 7)
    two.set_sessions(place, 1)
    assert one.read(place, TODAY) == two.read(place, TODAY) == Reading(8, 123, 123)
    assert one.read(place, TODAY, but_own_sessions=True).sessions == 1
    other = one.meter("day", "fd00:1::3")
    assert other != place
    assert one.read(other, TODAY) == Reading(0, 0, 0)
    assert [(limit, subject) for limit, subject, _reading in two.all(TODAY)] == [
        ("day", "fd00:1::2"),
        ("day", "fd00:1::3"),
    ]


def test_who_moves_something_is_told_to_the_others(path: Path) -> None:
    one, two, gone = Meters(path, 0), Meters(path, 1), Meters(path, 2)
    place = one.meter("rate", "ada")
    one.set_sessions(place, 7, 3)
    two.set_sessions(place, 2_000_000, 5_000)
    gone.set_sessions(place, 1, 1)
    assert (one.active(place, 2), two.active(place, 2)) == (meters.MAX_ACTIVE, 3)
    assert one.active(place, 3) == meters.MAX_ACTIVE + 1
    assert one.read(place, TODAY).sessions == 7 + (1 << 20) - 1 + 1
    one.forget_sessions([0])
    assert two.active(place, 2) == 0


def test_octets_outlive_the_process_and_sessions_do_not(path: Path) -> None:
    one = Meters(path, 0)
    place = one.meter("day", "ada")
    one.add(place, 100, TODAY)
    one.set_sessions(place, 7)
    one.close()
    again = Meters(path, 0)
    again.forget_sessions([0])
    assert again.meter("day", "ada") == place
    assert again.read(place, TODAY) == Reading(0, 100, 100)


def test_a_day_ends_before_its_month(path: Path) -> None:
    one = Meters(path, 0)
    place = one.meter("day", "ada")
    one.add(place, 100, TODAY)
    tomorrow = Period(TODAY.day + 1, TODAY.month)
    assert one.read(place, tomorrow) == Reading(0, 0, 100)
    one.add(place, 5, tomorrow)
    assert one.read(place, tomorrow) == Reading(0, 5, 105)
    assert one.read(place, Period(TODAY.day + 31, TODAY.month + 1)) == Reading(0, 0, 0)


def test_a_reset_leaves_the_sessions(path: Path) -> None:
    one, two = Meters(path, 0), Meters(path, 1)
    place = one.meter("day", "ada")
    one.add(place, 100, TODAY)
    two.add(place, 100, TODAY)
    two.set_sessions(place, 3)
    one.reset(place)
    assert two.read(place, TODAY) == Reading(3, 0, 0)


def test_a_file_of_another_kind_is_begun_anew(path: Path) -> None:
    path.write_bytes(b"rubbish" * 100)
    one = Meters(path, 0)
    assert one.all(TODAY) == []


def test_there_is_an_end_to_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "MAX_METERS", 3)
    one = Meters(path, 0)
    places = [one.meter("day", str(number)) for number in range(4)]
    assert places[3] == -1
    assert len(set(places)) == 4


def test_where_all_is_taken_the_idle_one_with_least_makes_room(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network's hosts have new addresses each day: it has to go on, and who used much stays."""
    monkeypatch.setattr(meters, "MAX_METERS", 4)
    monkeypatch.setattr(meters, "NEIGHBOURS", 4)
    one, two = Meters(path, 0), Meters(path, 1)
    places = {name: one.meter("day", name) for name in ("much", "little", "open", "held")}
    assert two.meter("day", "little") == places["little"]
    one.add(places["much"], 1_000, TODAY)
    one.add(places["little"], 10, TODAY)
    two.set_sessions(places["open"], 1)
    two.hold(places["held"])
    assert one.meter("day", "new") == -1
    assert one.meter("day", "new", TODAY) == places["little"]
    assert one.read(places["little"], TODAY) == Reading(0, 0, 0)
    assert two.meter("day", "new") == places["little"], "the other one finds it"
    assert two.meter("day", "little") == -1, "and not what was there before"
    one.add(places["little"], 2_000, TODAY)
    assert two.meter("day", "newer", TODAY) == places["much"]
    two.set_sessions(places["much"], 1)
    one.set_sessions(places["little"], 1)
    assert two.meter("day", "newest", TODAY) == -1, "nobody is idle"
    next_month = Period(TODAY.day + 31, TODAY.month + 1)
    one.set_sessions(places["little"], 0)
    assert one.meter("day", "newest", next_month) == places["little"]


def test_the_longest_names_there_are_fit(path: Path) -> None:
    one = Meters(path, 0)
    limit, subject = "l" * 32, "u" * 64
    one.add(one.meter(limit, subject), 1, TODAY)
    assert one.all(TODAY) == [(limit, subject, Reading(0, 1, 1))]


def test_periods_grow() -> None:
    days = [datetime(2026, 12, 31, 23, 59, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)]
    old, new = map(period_of, days)
    assert (new.day - old.day, new.month - old.month) == (1, 1)


def test_new_sessions_of_a_second_over_workers(tmp_path: Path) -> None:
    path = tmp_path / "meters"
    first, second = Meters(path, 0), Meters(path, 1)
    place = first.meter("rate", "ann")
    assert second.meter("rate", "ann") == place
    for _ in range(3):
        first.count_new(place, 4_095)
    second.count_new(place, 4_095)
    assert first.new(place, 4_095, 2) == second.new(place, 4_095, 2) == 4
    assert first.new(place, 4_096, 2) == 0
    second.count_new(place, 4_096)
    assert first.new(place, 4_096, 2) == 1
    second.add(place, 100, Period(1, 1))
    second.set_sessions(place, 7)
    assert first.new(place, 4_096, 2) == 1, "the other counters leave it alone"
    assert first.read(place, Period(1, 1)).sessions == 7
    first.close()
    second.close()
