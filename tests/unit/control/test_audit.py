"""The audit log: a chain of lines that no text within can cut."""

from __future__ import annotations

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
