"""Following the log: each line once, whatever is done to the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.session.follow import CHUNK, GRACE, Follower
from appliance.session.row import MAX_LINE
from tests.unit.session.rows import line

NOW = 100.0


class Log:
    """A log as the supervisor and its workers treat it; every line has a number of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "sessions.jsonl"
        self.written = 0

    def write(self, count: int = 1, path: Path | None = None) -> list[int]:
        """Some more lines; their numbers."""
        numbers = list(range(self.written, self.written + count))
        with (path or self.path).open("ab") as file:
            file.write(b"".join(line(bytes_to_wan=number) for number in numbers))
        self.written += count
        return numbers

    def moved(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def rotate(self, kept: int = 4) -> None:
        """As the supervisor does."""
        for number in range(kept - 1, 0, -1):
            if self.moved(number).exists():
                self.moved(number).rename(self.moved(number + 1))
        if self.path.exists():
            self.path.rename(self.moved(1))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def numbers(follower: Follower, now: float = NOW) -> list[int]:
    """Everything that there is to read; accepted."""
    found: list[int] = []
    while (batch := follower.read(now)) is not None:
        follower.accept(batch)
        assert len(batch.rows) == len(batch.lines)
        found += [row.to_wan for row in batch.rows]
    return found


def test_lines_as_they_come(log: Log) -> None:
    follower = Follower(log.path, None)
    assert numbers(follower) == []
    assert log.write(3) == numbers(follower) == [0, 1, 2]
    assert numbers(follower) == []
    assert log.write(2) == numbers(follower)
    assert follower.behind() == 0
    log.write(1)
    assert follower.behind() == log.path.stat().st_size // 6


def test_what_was_not_accepted_comes_again(log: Log) -> None:
    log.write(2)
    follower = Follower(log.path, None)
    first = follower.read(NOW)
    assert first is not None
    again = follower.read(NOW)
    assert again is not None and again.lines == first.lines
    follower.accept(again)
    assert follower.read(NOW) is None
    later = Follower(log.path, again.place)  # of the next process
    assert numbers(later) == []
    assert log.write(1) == numbers(later)


def test_a_line_without_an_end_is_waited_for(log: Log) -> None:
    follower = Follower(log.path, None)
    whole = line(bytes_to_wan=7)
    for end in (1, 50, len(whole) - 1):
        log.path.write_bytes(whole[:end])
        assert numbers(follower) == []
    log.path.write_bytes(whole)
    assert numbers(follower) == [7]


def test_rubbish_is_counted_and_passed_over(log: Log) -> None:
    follower = Follower(log.path, None)
    log.write(1)
    with log.path.open("ab") as file:
        file.write(b"rubbish\n\n\x00\x00\x00\n" + line()[:40] + b"\n")
    log.write(1)
    assert numbers(follower) == [0, 1]
    assert follower.garbage == 3


def test_a_line_longer_than_any_does_not_hold_up(log: Log) -> None:
    follower = Follower(log.path, None)
    log.path.write_bytes(b"x" * (CHUNK + MAX_LINE))
    assert numbers(follower) == []
    with log.path.open("ab") as file:
        file.write(b"x\n")
    assert log.write(2) == numbers(follower)
    assert 0 < follower.garbage <= 3


def test_a_log_that_is_moved_away_is_read_to_its_end(log: Log) -> None:
    follower = Follower(log.path, None)
    log.write(2)
    assert numbers(follower) == [0, 1]
    log.write(1)
    log.rotate()
    late = log.write(1, log.moved(1))  # of a worker that has not opened the new one yet
    new = log.write(2)
    assert numbers(follower) == [2, *late]
    late = log.write(1, log.moved(1))
    assert numbers(follower, NOW + GRACE / 2) == late
    assert numbers(follower, NOW + GRACE) == new


def test_logs_that_were_moved_while_nobody_looked(log: Log) -> None:
    follower = Follower(log.path, None)
    log.write(2)
    assert numbers(follower) == [0, 1]
    wanted = []
    for _ in range(3):
        wanted += log.write(2)
        log.rotate()
    wanted += log.write(1)
    assert numbers(follower, NOW) + numbers(follower, NOW + GRACE) == wanted
    assert follower.lost == 0


def test_the_first_start_takes_all_there_is(log: Log) -> None:
    wanted = []
    for _ in range(3):
        wanted += log.write(2)
        log.rotate()
    wanted += log.write(1)
    follower = Follower(log.path, None)
    assert numbers(follower, NOW) + numbers(follower, NOW + GRACE) == wanted


def test_a_log_that_went_before_it_was_read_is_told(log: Log) -> None:
    follower = Follower(log.path, None)
    log.write(2)
    assert numbers(follower) == [0, 1]
    log.write(2)
    for _ in range(5):
        log.rotate(kept=2)
        new = log.write(1)
    assert numbers(follower) + numbers(follower, NOW + GRACE) == [new[0] - 2, new[0] - 1, *new]
    assert follower.lost == 1


def test_a_log_that_was_deleted_by_hand_brings_nothing_twice(log: Log) -> None:
    follower = Follower(log.path, None)
    log.write(2)
    log.rotate()
    os.utime(log.moved(1), ns=(1, 1))
    log.write(2)
    assert numbers(follower) + numbers(follower, NOW + GRACE) == [0, 1, 2, 3]
    keeps = log.path.open()  # or the next one would have its inode
    log.path.unlink()
    new = log.write(1)
    os.utime(log.path, (2e9, 2e9))
    assert numbers(follower, NOW + GRACE) == new
    keeps.close()


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_log_that_was_emptied(log: Log, after: int) -> None:
    """With less, as much and more in it than before."""
    follower = Follower(log.path, None)
    log.write(1)
    assert numbers(follower) == [0]
    os.truncate(log.path, 0)
    if not after:
        assert numbers(follower) == []
    new = log.write(after or 1)
    assert numbers(follower) == new


def test_going_on_from_the_end(log: Log) -> None:
    follower = Follower(log.path, None)
    assert follower.at_end() is None
    log.write(3)
    follower.skip_to(follower.at_end())
    assert numbers(follower) == []
    assert log.write(1) == numbers(follower)
    os.truncate(log.path, 0)
    follower.skip_to(follower.at_end())
    new = log.write(2)
    assert numbers(follower) == new
    assert numbers(follower) == []


_STEPS = st.lists(st.sampled_from(["write", "write", "rotate", "read", "restart", "wait"]), max_size=30)


@settings(deadline=None)
@given(_STEPS)
def test_each_line_once_and_in_order(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    log = Log(tmp_path_factory.mktemp("log"))
    follower = Follower(log.path, None)
    found: list[int] = []
    now = NOW
    for step in steps:
        if step == "write":
            log.write(2)
        elif step == "rotate" and not log.moved(4).exists():
            log.rotate()
        elif step == "read":
            found += numbers(follower, now)
        elif step == "wait":
            now += GRACE
        elif step == "restart":
            follower = Follower(log.path, follower._place)
    for _ in range(3):
        found += numbers(follower, now)
        now += GRACE
    assert found == list(range(log.written))
