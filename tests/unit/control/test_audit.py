"""The audit log: a chain of lines that no text within can cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.control.audit import Audit


@pytest.mark.parametrize("sign", ["\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_no_sign_ends_a_line(tmp_path: Path, sign: str) -> None:
    """What some take for the end of a line is as good as any in a comment."""
    about = f"one{sign}two"
    Audit(tmp_path).note("done", "commit", about, who="ann")
    audit = Audit(tmp_path)  # as after a restart: it goes on where the last line ends
    audit.note("done", "commit", "next", who="bob")
    entries, _cursor = audit.page({}, None, 10)
    assert [(entry["seq"], entry["about"]) for entry in entries] == [(2, "next"), (1, about)]
    verdict = audit.verify()
    assert (verdict.entries, verdict.problem) == (2, None)


def test_a_line_that_was_changed_is_told(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    for number in range(3):
        audit.note("done", "commit", f"change {number}", who="ann")
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text().replace("change 1", "change 9"))
    assert audit.verify().problem


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full in the middle of an entry: the next one follows the one before it."""
    audit = Audit(tmp_path)
    audit.note("done", "commit", "one", who="ann")
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))
    audit.note("done", "commit", "two", who="ann")
    monkeypatch.undo()
    audit.note("done", "commit", "three", who="ann")
    for one in (audit, Audit(tmp_path)):
        verdict = one.verify()
        assert (verdict.entries, verdict.problem) == (2, None)


def test_a_file_that_has_nothing_yet(tmp_path: Path) -> None:
    """As where the first entry's line was cut off by a power cut."""
    (tmp_path / "audit.jsonl").write_text('{"seq": 1, "ti')
    assert Audit(tmp_path).verify().problem is None
