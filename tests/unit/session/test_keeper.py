"""The daemon's work: each line once over crashes, and what a bad disk costs."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from appliance.session import keeper as keeping
from appliance.session.follow import Batch
from appliance.session.history import DAY, open_reader
from appliance.session.keeper import DAMAGED, DATABASE, RETRY, Keeper
from appliance.session.queries import Filters, search
from tests.unit.session.rows import line

BEGIN = 1_800_000_000
ROOT = Path(__file__).resolve().parents[3]


class Sink:
    """An export that remembers."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.erased = 0

    def write(self, batch: Batch) -> None:
        self.lines += batch.lines

    def forget(self, oldest: float, now: float) -> None:
        pass

    def erase(self) -> None:
        self.erased += 1


class Box:
    """A log, a folder, and a clock that is ours."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "sessions.jsonl"
        self.state = folder / "state"
        self.state.mkdir()
        self.sink = Sink()
        self.now = 0.0
        self.written = 0
        self.keeper = self.start()

    def start(self) -> Keeper:
        return Keeper(self.state, self.log, [self.sink])

    def write(self, count: int = 1) -> None:
        with self.log.open("ab") as file:
            for _ in range(count):
                file.write(line(bytes_to_wan=self.written, time=BEGIN + self.written))
                self.written += 1

    def turn(self) -> None:
        while self.keeper.turn(self.now, BEGIN + self.now):
            pass

    def kept(self) -> list[int]:
        """Numbers of the rows in the database, from the oldest."""
        with closing(open_reader(self.state / DATABASE)) as database:
            return [one["to_wan"] for one in reversed(search(database, Filters(), limit=1_000).rows)]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_rows_are_kept_over_restarts(box: Box) -> None:
    box.turn()
    box.write(3)
    box.turn()
    box.keeper.close()
    box.write(2)
    box.keeper = box.start()
    box.turn()
    assert box.kept() == [0, 1, 2, 3, 4]
    assert len(box.sink.lines) == 5
    assert (box.state / DATABASE).stat().st_mode & 0o777 == 0o640
    status = box.keeper.status()
    assert (status["rows"], status["taken_in"], status["behind"], status["problem"]) == (5, 2, 0, None)


def test_a_disk_that_refuses_costs_nothing_but_time(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.write(1)
    box.turn()
    store = box.keeper._store
    assert store is not None
    store._db.execute("PRAGMA max_page_count = 1")  # it is never below what there is
    box.write(900)
    box.turn()
    assert "full" in box.keeper.status()["problem"]
    assert box.kept() == [0]
    box.write(1)
    box.turn()
    assert box.kept() == [0], "not before its time"
    store._db.execute("PRAGMA max_page_count = 100000")
    box.now += RETRY
    box.turn()
    assert box.kept() == list(range(902))
    assert len(box.sink.lines) == 902, "each went out once"
    assert box.keeper.status()["problem"] is None
    assert capsys.readouterr().err.count("isthmus-history") == 2


def test_a_folder_that_is_not_there_yet(box: Box) -> None:
    box.state.rmdir()
    box.write(1)
    box.turn()
    assert "unable to open" in box.keeper.status()["problem"]
    box.state.mkdir()
    box.now += RETRY
    box.turn()
    assert box.kept() == [0]


def test_a_damaged_database_is_moved_aside_and_made_anew(box: Box) -> None:
    box.write(3)
    box.turn()
    box.keeper.close()
    (box.state / DATABASE).write_bytes(b"rubbish" * 2_000)
    os.utime(box.state / DATABASE, (BEGIN, BEGIN))
    box.keeper = box.start()
    box.turn()
    assert box.kept() == [0, 1, 2], "the log has them still"
    assert (box.state / DAMAGED).read_bytes().startswith(b"rubbish")
    assert box.keeper.status()["moved_aside"] == 1
    box.now += box.keeper.retention + DAY
    box.turn()
    assert not (box.state / DAMAGED).exists(), "names are in it too"


def test_damage_that_comes_while_it_runs(box: Box) -> None:
    box.write(3)
    box.turn()
    store = box.keeper._store
    assert store is not None
    store.checkpoint()
    path = box.state / DATABASE
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(b"\xa5" * size)
    store._db.execute("PRAGMA cache_size = 0")
    box.write(1)
    box.turn()
    box.now += RETRY
    box.turn()
    assert box.kept() == [0, 1, 2, 3]
    assert box.keeper.status()["moved_aside"] == 1


def test_the_history_does_not_grow_on_a_disk_that_is_nearly_full(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.write(5)
    box.turn()
    monkeypatch.setattr(keeping, "MIN_FREE", 1 << 62)
    box.write(3)
    box.turn()
    assert box.kept() == [3, 4, 5, 6, 7]


def test_what_is_too_old_goes(box: Box) -> None:
    box.keeper.retention = 10.0
    box.write(20)
    box.now = 20.0
    box.turn()
    assert box.kept() == list(range(10, 20))


def test_erasing_leaves_nothing_and_goes_on(box: Box) -> None:
    box.write(3)
    box.turn()
    (box.state / DAMAGED).write_bytes(b"older")
    box.write(2)  # not read yet: before the erasing all the same
    box.keeper.erase()
    assert box.kept() == []
    assert box.sink.erased == 1
    assert b"a.example" not in b"".join(path.read_bytes() for path in box.state.iterdir())
    assert not (box.state / DAMAGED).exists()
    box.write(1)
    box.turn()
    assert box.kept() == [5]
    box.keeper.close()
    box.keeper = box.start()
    box.turn()
    assert box.kept() == [5]


def test_erasing_with_a_damaged_database(box: Box) -> None:
    (box.state / DATABASE).write_bytes(b"rubbish" * 2_000)
    box.write(1)
    box.keeper.erase()
    box.turn()
    assert box.kept() == []


def daemon(folder: Path) -> subprocess.Popen[bytes]:
    """The program itself."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "appliance.session.main", "--log", folder / "sessions.jsonl"),
            *("--state", folder / "state", "--runtime", folder, "--config", folder / "none.toml"),
        ],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )


def test_a_killed_daemon_neither_doubles_nor_loses_a_row(tmp_path: Path) -> None:
    box = Box(tmp_path)
    for round_ in range(8):
        process = daemon(tmp_path)
        try:
            # From its start on, at moments that fall into batches of theirs and ours.
            deadline = time.monotonic() + 0.3 + 0.15 * round_
            while time.monotonic() < deadline:
                box.write(50)
                time.sleep(0.01)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    process = daemon(tmp_path)
    try:
        deadline = time.monotonic() + 30
        counted: Counter[int] = Counter()
        while counted.total() < box.written and time.monotonic() < deadline:
            time.sleep(0.1)
            try:
                with closing(sqlite3.connect(f"file:{box.state / DATABASE}?mode=ro", uri=True)) as database:
                    counted = Counter(row[0] for row in database.execute("SELECT to_wan FROM session"))
            except sqlite3.OperationalError:
                continue  # it is not there yet
    finally:
        process.terminate()
        assert process.wait(10) == 0
    assert sorted(counted) == list(range(box.written))
    assert set(counted.values()) == {1}
