"""Whether the program on disk may take over."""

from __future__ import annotations

import sys

import pytest

from appliance.proxy import succession


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ([sys.executable, "-c", "import sys; sys.exit('no such setting')"], "no such setting"),
        (["/nonexistent/isthmus-proxy"], "No such file"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "timed out"),
    ],
)
def test_one_that_cannot_leaves_this_one_be(
    program: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "orig_argv", program)
    monkeypatch.setattr(succession, "CHECK_TIMEOUT", 2.0)
    assert not succession.next_can_serve()
    said = capsys.readouterr().err
    assert said.startswith("the new program cannot serve; this one stays:\n")
    assert words in said


def test_one_that_can(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    checks = "import sys; sys.exit(sys.argv[1] != '--check')"
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", checks])
    assert succession.next_can_serve()
    assert capsys.readouterr().err == ""


def test_nothing_is_inherited_from_nobody() -> None:
    assert succession.inherited() is None
