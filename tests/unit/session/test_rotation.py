"""A log that is moved away by its size and its age."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.session.rotation import CATCH_UP, DAY, Rotation

NOW = 1_000_000_000.0


def time_of(line: bytes) -> float | None:
    try:
        return float(line)
    except ValueError:
        return None


def rotation(path: Path) -> Rotation:
    return Rotation(path, 1_000, 2, time_of)


def test_when_it_is_due(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with pytest.raises(FileNotFoundError):
        rotation(path).is_due(NOW)
    path.write_bytes(b"")
    made = rotation(path)
    assert not made.is_due(NOW)
    path.write_bytes(b"%d" % NOW)  # a line that is being written
    assert not made.is_due(NOW + DAY)
    path.write_bytes(b"%d\n" % NOW)
    assert not made.is_due(NOW + DAY - 1)
    assert made.is_due(NOW + DAY)
    path.write_bytes(b"rubbish\n")
    assert not rotation(path).is_due(NOW)
    path.write_bytes(b"x" * 1_000)
    assert rotation(path).is_due(NOW)


def test_moving(tmp_path: Path) -> None:
    path = tmp_path / "log"
    made = rotation(path)
    for number in range(4):
        path.write_text(f"{number}\n")
        made.move()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["log.1", "log.2"]
    assert (tmp_path / "log.1").read_text() == "3\n"
    path.write_bytes(b"%d\n" % NOW)
    assert made.is_due(NOW + DAY) and not made.is_due(NOW)


def test_forgetting(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for number in (1, 2):
        older = tmp_path / f"log.{number}"
        older.write_text("")
        os.utime(older, (NOW, NOW - number * DAY))
    made = rotation(path)
    made.forget(NOW - 2.5 * DAY)
    assert (tmp_path / "log.1").exists() and not (tmp_path / "log.2").exists()
    made.forget(NOW)
    assert not (tmp_path / "log.1").exists()


def test_what_was_moved_this_moment_is_read_yet(tmp_path: Path) -> None:
    """Also where a day is all that is kept, of which it may hold the beginning."""
    made = rotation(tmp_path / "log")
    moved = tmp_path / "log.1"
    moved.write_text("")
    os.utime(moved, (NOW, NOW))
    made.forget(NOW - DAY + CATCH_UP, CATCH_UP)
    assert moved.exists()
    made.forget(NOW - DAY + CATCH_UP + 1, CATCH_UP)
    assert not moved.exists()


def test_erasing_reaches_who_has_it_open(tmp_path: Path) -> None:
    path = tmp_path / "log"
    made = rotation(path)
    made.erase()  # there is none yet
    (tmp_path / "log.2").write_text("old\n")
    with path.open("a") as file:
        file.write("before\n")
        file.flush()
        made.erase()
        file.write("after\n")
    assert path.read_text() == "after\n"
    assert not (tmp_path / "log.2").exists()
